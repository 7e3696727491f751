"""JSON Schema by Python's jsonschema and Confluent's client: what the codec is compared with.

    json_cases.py generate SEED COUNT    schemas, and values with a verdict on each: a JSON object a line
    json_cases.py read                   reads frames of the codec, a JSON object a line, and says what they hold

`unevaluatedItems` and `unevaluatedProperties` are left out: what Python's takes for looked at differs.
"""

import base64
import json
import random
import sys

import jsonschema
from confluent_kafka.schema_registry import Schema as RegistrySchema, SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from referencing import Registry, Resource

VALUES_EACH = 12
FRAMES = 30
TOPIC = "orders"

DRAFTS = {
    4: ("http://json-schema.org/draft-04/schema#", jsonschema.Draft4Validator),
    6: ("http://json-schema.org/draft-06/schema#", jsonschema.Draft6Validator),
    7: ("http://json-schema.org/draft-07/schema#", jsonschema.Draft7Validator),
    2019: ("https://json-schema.org/draft/2019-09/schema", jsonschema.Draft201909Validator),
    2020: ("https://json-schema.org/draft/2020-12/schema", jsonschema.Draft202012Validator),
}
NAMES = ["a", "b", "c", "d/e", "f~g", "\u00fc"]
NUMBERS = [0, 1, -1, 2, 3, 7, 0.5, 1.0, -2.5, 1e3, 10**20, 2**53 + 1]
TEXTS = ["", "a", "ab", "abc", "\u00fc\U0001f35c", "2026-01-31", "x1", "10"]
PATTERNS = ["^a", "b$", "^[a-z]+$", "\\d", "^.{2}$", "^(a|x)", "^(?!a)"]


class Maker:
    def __init__(self, dice, draft):
        self.dice, self.draft = dice, draft
        self.definitions = "$defs" if draft >= 2019 else "definitions"

    def schema(self, depth):
        dice = self.dice
        roll = dice.random()
        if depth and roll < 0.1:
            return {"$ref": dice.choice([f"#/{self.definitions}/one", f"#/{self.definitions}/two", "other.json"])}
        if roll < 0.14 and self.draft >= 6:
            return dice.choice([True, True, False])
        schema = {}
        makers = [self.types, self.numbers, self.texts, self.values]
        if depth:
            makers += [self.arrays, self.objects, self.objects, self.combined]
        for maker in dice.sample(makers, dice.randint(1, 3)):
            maker(schema, depth)
        return schema

    def some(self, schema, depth, **keywords):
        """A few of these keywords."""
        for name in self.dice.sample(list(keywords), self.dice.randint(1, min(3, len(keywords)))):
            schema[name] = keywords[name]()

    def types(self, schema, depth):
        every = ["null", "boolean", "number", "integer", "string", "array", "object"]
        schema["type"] = self.dice.choice([self.dice.choice(every), self.dice.sample(every, 4), ["object", "array"]])

    def numbers(self, schema, depth):
        dice, pick = self.dice, lambda: self.dice.choice(NUMBERS)
        self.some(schema, depth, minimum=pick, maximum=pick, multipleOf=lambda: dice.choice([1, 2, 0.5, 3]))
        if dice.random() < 0.3 and (self.draft >= 6 or "maximum" in schema):
            schema["exclusiveMaximum"] = pick() if self.draft >= 6 else True

    def texts(self, schema, depth):
        dice = self.dice
        self.some(
            schema,
            depth,
            minLength=lambda: dice.randint(0, 3),
            maxLength=lambda: dice.randint(0, 3),
            pattern=lambda: dice.choice(PATTERNS),
        )

    def values(self, schema, depth):
        if self.dice.random() < 0.3:
            # Equal values twice are refused by the metaschema.
            schema["enum"] = [*self.dice.sample(NUMBERS[1:5] + TEXTS + [None], 6), {"a": self.value(0)}, [self.value(0)]]
        elif self.dice.random() < 0.1 and self.draft >= 6:
            schema["const"] = self.value(0)

    def arrays(self, schema, depth):
        dice, inner = self.dice, lambda: self.schema(depth - 1)
        several = lambda: [inner() for _ in range(dice.randint(1, 2))]
        keywords = {
            "minItems": lambda: dice.randint(0, 2),
            "maxItems": lambda: dice.randint(1, 4),
            "uniqueItems": lambda: dice.choice([True, False]),
            "items": inner if self.draft == 2020 else lambda: dice.choice([inner, several])(),
        }
        if self.draft >= 6:
            keywords["contains"] = inner
        if self.draft >= 2019:
            keywords["minContains"] = lambda: dice.randint(0, 2)
        if self.draft == 2020:
            keywords["prefixItems"] = several
        else:
            keywords["additionalItems"] = inner
        self.some(schema, depth, **keywords)
        if not isinstance(schema.get("items", []), list):
            # It means nothing then, and Python's stumbles over booleans.
            schema.pop("additionalItems", None)
        if self.draft == 2019 and isinstance(schema.get("items"), bool):
            schema.pop("items")

    def objects(self, schema, depth):
        dice, inner = self.dice, lambda: self.schema(depth - 1)
        named = lambda: {name: inner() for name in dice.sample(NAMES, dice.randint(1, 3))}
        keywords = {
            "properties": named,
            "required": lambda: dice.sample(NAMES, 1),
            "additionalProperties": inner,
            "patternProperties": lambda: {dice.choice(["^a", "b", "."]): inner()},
            "minProperties": lambda: dice.randint(0, 2),
            "maxProperties": lambda: dice.randint(1, 4),
        }
        if self.draft >= 6:
            keywords["propertyNames"] = lambda: {"maxLength": dice.randint(1, 3)}
        if self.draft >= 2019:
            keywords |= {
                "dependentRequired": lambda: {"a": ["b"]},
                "dependentSchemas": lambda: {"b": inner()},
            }
        else:
            keywords["dependencies"] = lambda: {"a": ["b"], "b": inner()}
        self.some(schema, depth, **keywords)

    def combined(self, schema, depth):
        dice, inner = self.dice, lambda: self.schema(depth - 1)
        several = lambda: [inner() for _ in range(dice.randint(1, 3))]
        keywords = {"allOf": several, "anyOf": several, "oneOf": several, "not": inner}
        self.some(schema, depth, **keywords)
        if self.draft >= 7 and dice.random() < 0.4:
            schema |= {"if": inner(), "then": inner(), "else": inner()}

    def value(self, depth):
        dice = self.dice
        roll = dice.random()
        if depth and roll < 0.35:
            return {name: self.value(depth - 1) for name in dice.sample(NAMES, dice.randint(0, 4))}
        if depth and roll < 0.55:
            return [self.value(depth - 1) for _ in range(dice.randint(0, 4))]
        return dice.choice([None, True, False, dice.choice(NUMBERS), dice.choice(NUMBERS), dice.choice(TEXTS)])


def made(dice):
    """A schema with another that it refers to, and what checks by it."""
    draft = dice.choice(list(DRAFTS))
    address, kind = DRAFTS[draft]
    maker = Maker(dice, draft)
    # Below a schema that refers to nothing else, references end.
    other = {"$schema": address, **plain(maker)}
    schema = maker.schema(3)
    schema = schema if isinstance(schema, dict) and "$ref" not in schema else {"allOf": [schema]}
    schema |= {"$schema": address, maker.definitions: {"one": plain(maker), "two": plain(maker)}}
    kind.check_schema(schema)
    registry = Registry().with_resource("other.json", Resource.from_contents(other))
    return maker, schema, other, kind(schema, registry=registry)


def plain(maker):
    while not isinstance(schema := maker.schema(0), dict) or "$ref" in schema:
        pass
    return schema


def case(dice):
    maker, schema, other, validator = made(dice)
    values = []
    for _ in range(VALUES_EACH):
        value = maker.value(3)
        places = {pointer(error.absolute_path) for error in leaves(validator.iter_errors(value))}
        values.append({"value": json.dumps(value), "valid": validator.is_valid(value), "places": sorted(places)})
    return {"schema": json.dumps(schema), "references": [["other.json", json.dumps(other)]], "values": values}


def leaves(errors):
    """Errors with those inside of them: which of several is named first is up to each."""
    for error in errors:
        yield error
        yield from leaves(error.context or [])


def pointer(path):
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def frames(dice):
    """Of Confluent's own serializer, by a registry in memory."""
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    context = SerializationContext(TOPIC, MessageField.VALUE)
    left = FRAMES
    while left:
        maker = Maker(dice, 7)
        schema = {"$schema": DRAFTS[7][0], "title": "Value", "type": "object", "properties": {"a": maker.schema(1)}}
        if "$ref" in json.dumps(schema):
            continue
        value = {"a": maker.value(2), "always": left}
        try:
            frame = JSONSerializer(json.dumps(schema), registry)(value, context)
        except Exception:  # noqa: BLE001 values that do not fit are compared above
            continue
        left -= 1
        yield {
            "schema": json.dumps(schema),
            "id": int.from_bytes(frame[1:5], "big"),
            "frame": base64.b64encode(frame).decode(),
            "value": json.dumps(value),
        }


def generate(seed, count):
    dice = random.Random(seed)
    for _ in range(count):
        print(json.dumps({"case": case(dice)}))
    for frame in frames(dice):
        print(json.dumps({"confluent": frame}))


def read_all():
    for line in sys.stdin:
        asked = json.loads(line)
        registry = SchemaRegistryClient.new_client({"url": "mock://"})
        number = registry.register_schema(f"{TOPIC}-value", RegistrySchema(asked["schema"], "JSON"))
        frame = base64.b64decode(asked["frame"])
        assert frame[:5] == b"\0" + asked["id"].to_bytes(4, "big"), frame[:5]
        frame = b"\0" + number.to_bytes(4, "big") + frame[5:]
        context = SerializationContext(TOPIC, MessageField.VALUE)
        print(json.dumps(JSONDeserializer(asked["schema"], schema_registry_client=registry)(frame, context)))


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(int(sys.argv[2]), int(sys.argv[3]))
    else:
        read_all()

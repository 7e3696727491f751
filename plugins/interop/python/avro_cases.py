"""Avro by fastavro and Confluent's client: what the codec is compared with.

    avro_cases.py generate SEED COUNT    schemas, values, readers: a JSON object a line
    avro_cases.py read                   reads bytes of the codec, a JSON object a line, and says what they hold

Values are said as the codec's plain JSON has them: bytes as base64, decimals as text, times as numbers (`plain`) or in
ISO 8601 (`iso`).
"""

import base64
import copy
import io
import json
import math
import random
import sys

import fastavro
import fastavro.read
import fastavro.write
from confluent_kafka.schema_registry import Schema as RegistrySchema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro.schema import fingerprint, to_parsing_canonical_form

VALUES_EACH = 4
READERS_EACH = 3
TOPIC = "orders"


# What fastavro reads, as plain values.


def text64(data):
    return base64.b64encode(data).decode()


OWN = dict(fastavro.read.LOGICAL_READERS)


def read_decimal(data, writer, reader=None):
    return format(OWN["bytes-decimal"](data, writer, reader), "f")


def read_uuid(data, writer, reader=None):
    text = data.hex()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def read_duration(data, writer, reader=None):
    numbers = [int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8)]
    return dict(zip(("months", "days", "millis"), numbers))


def as_it_is(data, writer, reader=None):
    return data


def iso(name, digits):
    """What fastavro makes a date or time of, in the codec's way."""

    def read(data, writer, reader=None):
        value = OWN[name](data, writer, reader)
        text = value.isoformat(timespec={0: "seconds", 3: "milliseconds", 6: "microseconds"}[digits])
        return text.replace("+00:00", "Z")

    return read


ALWAYS = {
    "bytes-decimal": read_decimal,
    "fixed-decimal": read_decimal,
    "string-uuid": as_it_is,
    "fixed-uuid": read_uuid,
    "fixed-duration": read_duration,
}
TIMES = {
    "long-timestamp-millis": 3,
    "long-timestamp-micros": 6,
    "long-local-timestamp-millis": 3,
    "long-local-timestamp-micros": 6,
    "int-time-millis": 3,
    "long-time-micros": 6,
}


def use(form):
    readers = fastavro.read.LOGICAL_READERS
    readers.update(ALWAYS)
    for name, digits in TIMES.items():
        readers[name] = iso(name, digits) if form == "iso" else as_it_is
    date = lambda data, writer, reader=None: OWN["int-date"](data, writer, reader).isoformat()
    readers["int-date"] = date if form == "iso" else as_it_is


def plain(value):
    if isinstance(value, bytes):
        return text64(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def read(schema, data, form="number", reader=None):
    use(form)
    stream = io.BytesIO(data)
    value = fastavro.schemaless_reader(stream, schema, reader)
    assert not stream.read(), "bytes are left"
    return plain(value)


# What is made. Values of logical types are given as what they are made of: fastavro takes any text in a union with a date
# for a date.
fastavro.write.LOGICAL_WRITERS.clear()


def full_name(schema):
    return f"{schema['namespace']}.{schema['name']}".lstrip(".")


class Maker:
    def __init__(self, dice):
        self.dice = dice
        self.count = 0
        self.defined = {}
        # Not mixed: a name without a dot would be looked for in the namespace around it.
        self.namespaces = dice.choice([[""], ["one", "two.three"]])

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def define(self, schema):
        schema["namespace"] = self.dice.choice(self.namespaces)
        self.defined[full_name(schema)] = schema
        return schema

    def primitive(self):
        return self.dice.choice(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])

    def logical(self):
        precision = self.dice.randint(1, 30)
        scale = self.dice.randint(0, precision)
        size = self.dice.randint(14, 18)
        fixed = lambda size, logical, **more: self.define(
            {"type": "fixed", "name": self.name("Fixed"), "size": size, "logicalType": logical, **more}
        )
        return self.dice.choice(
            [
                lambda: {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale},
                lambda: fixed(size, "decimal", precision=precision, scale=scale),
                lambda: {"type": "int", "logicalType": "date"},
                lambda: {"type": "int", "logicalType": "time-millis"},
                lambda: {"type": "long", "logicalType": "time-micros"},
                lambda: {"type": "long", "logicalType": "timestamp-millis"},
                lambda: {"type": "long", "logicalType": "timestamp-micros"},
                lambda: {"type": "long", "logicalType": "local-timestamp-millis"},
                lambda: {"type": "long", "logicalType": "local-timestamp-micros"},
                lambda: {"type": "string", "logicalType": "uuid"},
                lambda: fixed(16, "uuid"),
                lambda: fixed(12, "duration"),
                lambda: {"type": "string", "logicalType": "unheard-of"},
            ]
        )()

    def schema(self, depth):
        if depth <= 0:
            return self.logical() if self.dice.random() < 0.4 else self.primitive()
        if self.defined and self.dice.random() < 0.1:
            return self.dice.choice(sorted(self.defined))
        return self.dice.choice(
            [self.record, self.record, self.array, self.map, self.union, self.enum, self.fixed]
        )(depth)

    def record(self, depth):
        record = {"type": "record", "name": self.name("Record"), "fields": []}
        self.define(record)
        full = full_name(record)
        del self.defined[full]  # not before it is whole: a record that always holds itself has no value
        for _ in range(self.dice.randint(0, 6)):
            kind = self.schema(depth - self.dice.randint(1, 2))
            record["fields"].append({"name": self.name("field"), "type": kind})
        if self.dice.random() < 0.2:
            record["fields"].append({"name": self.name("self"), "type": ["null", full]})
        self.defined[full] = record
        return record

    def array(self, depth):
        return {"type": "array", "items": self.schema(depth - 1)}

    def map(self, depth):
        return {"type": "map", "values": self.schema(depth - 1)}

    def enum(self, depth):
        symbols = [f"SYMBOL_{at}" for at in range(self.dice.randint(1, 5))]
        return self.define({"type": "enum", "name": self.name("Enum"), "symbols": symbols})

    def fixed(self, depth):
        return self.define({"type": "fixed", "name": self.name("Fixed"), "size": self.dice.randint(0, 9)})

    def union(self, depth):
        branches, seen = [], set()
        for _ in range(self.dice.randint(1, 4)):
            before = dict(self.defined)
            branch = self.schema(depth - 1)
            kinds = {self.base(branch)} | self.groups(branch)
            if not kinds & seen and not isinstance(branch, list):
                seen |= kinds
                branches.append(branch)
            else:
                self.defined = before
        return branches or ["null", "string"]

    def base(self, schema):
        """What may be in a union once. Of decimals only one: JSON does not say which of them a text is."""
        if isinstance(schema, str):
            schema = self.defined.get(schema, schema)
        if isinstance(schema, str):
            return schema
        if isinstance(schema, list):
            return "union"
        if schema.get("logicalType") == "decimal":
            return "decimal"
        if schema["type"] in ("record", "enum", "fixed"):
            return full_name(schema)
        return schema["type"]

    def groups(self, schema):
        """Of each a union has one type, so that fastavro does not write or read one of them as another: it takes the
        first that might be meant."""
        schema = self.defined.get(schema, schema) if isinstance(schema, str) else schema
        kind = schema["type"] if isinstance(schema, dict) else schema
        groups = {
            "int": {"whole"},
            "long": {"whole"},
            "float": {"whole"},
            "string": {"promoted"},
            "bytes": {"promoted", "raw"},
            "fixed": {"raw"},
        }
        return groups.get(kind, set()) if isinstance(kind, str) else set()

    def value(self, schema, depth=0):
        dice = self.dice
        if isinstance(schema, list):
            if depth > 6 and "null" in schema:
                return None
            branch = dice.choice(schema)
            value = self.value(branch, depth + 1)
            named = self.defined.get(branch) if isinstance(branch, str) else branch
            if isinstance(named, dict) and named["type"] == "record":
                return (full_name(named), value)
            return value
        if isinstance(schema, str) and schema in self.defined:
            schema = self.defined[schema]
        kind = schema if isinstance(schema, str) else schema["type"]
        logical = schema.get("logicalType") if isinstance(schema, dict) else None
        few = range(dice.randint(0 if depth < 6 else 1, 3) if depth < 6 else 1)
        if kind == "null":
            return None
        if kind == "boolean":
            return dice.random() < 0.5
        if logical == "decimal":
            limit = 10 ** schema["precision"] - 1
            unscaled = dice.choice([0, limit, -limit, dice.randint(-limit, limit)])
            size = schema.get("size", unscaled.bit_length() // 8 + 1)
            return unscaled.to_bytes(size, "big", signed=True)
        if logical == "date":
            return dice.randint(-700_000, 2_900_000)
        if logical == "time-millis":
            return dice.randint(0, 86_399_999)
        if logical == "time-micros":
            return dice.randint(0, 86_399_999_999)
        if logical in ("timestamp-millis", "local-timestamp-millis"):
            return dice.randint(-62_135_596_800_000, 253_402_300_799_999)
        if logical in ("timestamp-micros", "local-timestamp-micros"):
            return dice.randint(-62_135_596_800_000_000, 253_402_300_799_999_999)
        if logical == "uuid" and kind == "string":
            return read_uuid(dice.randbytes(16), None)
        if kind == "int":
            return dice.choice([0, -1, 2**31 - 1, -(2**31), dice.randint(-(2**20), 2**20)])
        if kind == "long":
            return dice.choice([0, 64, 2**63 - 1, -(2**63), dice.randint(-(2**40), 2**40)])
        if kind == "float":
            return dice.choice([0.0, float("nan"), float("-inf"), dice.randint(-9999, 9999) / 8])
        if kind == "double":
            return dice.choice([0.0, -0.5, 1e300, 5e-324, float("inf"), dice.uniform(-1e6, 1e6)])
        if kind == "bytes":
            return dice.randbytes(dice.randint(0, 20))
        if kind == "string":
            return "".join(dice.choice('ab "\\/\n\x01é€\U0001f35c') for _ in range(dice.randint(0, 12)))
        if kind == "fixed":
            return dice.randbytes(schema["size"])
        if kind == "enum":
            return dice.choice(schema["symbols"])
        if kind == "array":
            return [self.value(schema["items"], depth + 1) for _ in few]
        if kind == "map":
            return {f'key "{at}"': self.value(schema["values"], depth + 1) for at in few}
        return {field["name"]: self.value(field["type"], depth + 1) for field in schema["fields"]}


# Readers: what a schema becomes in time.

PROMOTED = {"int": ["long", "double"], "float": ["double"], "string": ["bytes"], "bytes": ["string"]}
DEFAULTS = [
    ("int", 7),
    ("string", 'a "default"'),
    (["null", "string"], None),
    ({"type": "array", "items": "int"}, [1, 2]),
    ({"type": "map", "values": "boolean"}, {"k": True}),
]


def places(schema, found):
    """All types in a schema that can be put in the place of another, each with a function that does."""

    def child(holder, key):
        found.append((holder[key], lambda new: holder.__setitem__(key, new)))
        places(holder[key], found)

    if isinstance(schema, list):
        for at in range(len(schema)):
            places(schema[at], found)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            for field in schema["fields"]:
                if "default" not in field:  # the default would have to become another too
                    child(field, "type")
        elif schema["type"] == "array":
            child(schema, "items")
        elif schema["type"] == "map":
            child(schema, "values")
    return found


def named(schema, kind, found):
    if isinstance(schema, list):
        for branch in schema:
            named(branch, kind, found)
    elif isinstance(schema, dict):
        if schema["type"] == kind:
            found.append(schema)
        for field in schema.get("fields", []):
            named(field["type"], kind, found)
        for key in ("items", "values"):
            if key in schema:
                named(schema[key], kind, found)
    return found


def changed(maker, schema):
    """A copy with one to three changes."""
    dice = maker.dice
    schema = copy.deepcopy(schema)
    for _ in range(dice.randint(1, 3)):
        records, enums = named(schema, "record", []), named(schema, "enum", [])
        all_places = places(schema, [])
        change = dice.choice(["add", "drop", "shuffle", "rename", "promote", "union", "enum", "break", "namespace"])
        if change == "add" and records:
            kind, default = dice.choice(DEFAULTS)
            fields = dice.choice(records)["fields"]
            new = {"name": maker.name("new"), "type": copy.deepcopy(kind)}
            if dice.random() < 0.8:
                new["default"] = copy.deepcopy(default)
            fields.insert(dice.randint(0, len(fields)), new)
        elif change == "drop" and records:
            fields = dice.choice(records)["fields"]
            # A field that defines a name others may use stays.
            plain_fields = [field for field in fields if isinstance(field["type"], str)]
            if plain_fields:
                fields.remove(dice.choice(plain_fields))
        elif change == "shuffle" and records:
            fields = dice.choice(records)["fields"]
            simple = [at for at, field in enumerate(fields) if isinstance(field["type"], str) and field["type"][0].islower()]
            simple = [at for at in simple if "." not in fields[at]["type"]]
            moved = [fields[at] for at in simple]
            dice.shuffle(moved)
            for at, field in zip(simple, moved):
                fields[at] = field
        elif change == "rename" and records:
            fields = dice.choice(records)["fields"]
            if fields:
                field = dice.choice(fields)
                field.setdefault("aliases", []).append(field["name"])
                field["name"] = maker.name("renamed")
        elif change == "promote":
            able = [place for place in all_places if isinstance(place[0], str) and place[0] in PROMOTED]
            if able:
                old, put = dice.choice(able)
                put(dice.choice(PROMOTED[old]))
        elif change == "union":
            able = [place for place in all_places if isinstance(place[0], str) and place[0] != "null" and place[0][0].islower()]
            if able:
                old, put = dice.choice(able)
                put(dice.choice([["null", old], [old, "null"]]))
        elif change == "enum" and enums:
            enum = dice.choice(enums)
            enum["symbols"] = enum["symbols"][: max(1, len(enum["symbols"]) - 1)]
            if dice.random() < 0.5:
                enum["default"] = enum["symbols"][0]
        elif change == "break":
            able = [place for place in all_places if place[0] in ("boolean", "int", "double")]
            if able:
                dice.choice(able)[1]("string")
        elif change == "namespace" and records:
            record = dice.choice(records)
            if not record["namespace"] and not any(f'"{record["name"]}"' == text for text in strings(schema)):
                record["name"] = maker.name("Stranger")
    return schema


def strings(schema):
    """The names of types that a schema uses."""
    if isinstance(schema, str):
        return [json.dumps(schema)]
    if isinstance(schema, list):
        return [text for branch in schema for text in strings(branch)]
    inner = [schema[key] for key in ("items", "values") if key in schema]
    inner += [field["type"] for field in schema.get("fields", [])]
    return [text for part in inner for text in strings(part)]


def without_empty(maker, schema):
    """At most one value, whose lists and maps all hold something: fastavro compares the types of items before it looks for any."""
    for _ in range(50):
        value = maker.value(schema)
        if not has_empty(value):
            return [value]
    return []


def has_empty(value):
    if isinstance(value, tuple):
        return has_empty(value[1])
    if isinstance(value, dict):
        return not value or any(has_empty(item) for item in value.values())
    if isinstance(value, list):
        return not value or any(has_empty(item) for item in value)
    if isinstance(value, bytes):
        return not value  # in a union it may be written as a list
    return False


def encoded(schema, value):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()


def case(dice):
    maker = Maker(dice)
    schema = maker.schema(dice.randint(0, 4))
    parsed = fastavro.parse_schema(copy.deepcopy(schema))
    canonical = to_parsing_canonical_form(parsed)
    values = [maker.value(schema) for _ in range(VALUES_EACH)]
    said = []
    for value in values:
        data = encoded(parsed, value)
        said.append(
            {"bytes": text64(data), "plain": read(parsed, data), "iso": read(parsed, data, "iso")}
        )
    file = io.BytesIO()
    fastavro.writer(file, parsed, values, codec=dice.choice(["null", "deflate"]))
    readers = [reader_case(maker, schema, parsed) for _ in range(READERS_EACH)]
    return {
        "schema": json.dumps(schema),
        # As bytes, little-endian: the order in which single objects have them.
        "fingerprint": fingerprint(canonical, "CRC-64-AVRO"),
        "values": said,
        "file": text64(file.getvalue()),
        "readers": [reader for reader in readers if reader],
    }


def reader_case(maker, schema, parsed):
    reader = changed(maker, schema)
    if reader == schema:
        return None
    values = without_empty(maker, schema)
    if not values:
        return None
    data = encoded(parsed, values[0])
    case = {"schema": json.dumps(reader), "bytes": text64(data)}
    try:
        case["plain"] = read(parsed, data, reader=fastavro.parse_schema(copy.deepcopy(reader)))
    except Exception as fault:  # noqa: BLE001 any refusal is one
        case["refused"] = f"{type(fault).__name__}: {fault}"[:300]
    return case


def confluent(dice):
    """Frames of Confluent's own serializer, by a registry in memory."""
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    context = SerializationContext(TOPIC, MessageField.VALUE)
    for _ in range(10):
        maker = Maker(dice)
        schema = maker.record(3)
        # Confluent's deserializer takes a frame without bytes behind it for a damaged one.
        schema["fields"].append({"name": "always", "type": "int"})
        text = json.dumps(schema)
        serializer = AvroSerializer(registry, text)
        deserializer = AvroDeserializer(registry, text)
        frame = serializer(maker.value(schema), context)
        use("number")
        yield {
            "schema": text,
            "id": int.from_bytes(frame[1:5], "big"),
            "frame": text64(frame),
            "plain": plain(deserializer(frame, context)),
        }


def generate(seed, count):
    dice = random.Random(seed)
    for _ in range(count):
        print(json.dumps({"case": case(dice)}))
    for frame in confluent(dice):
        print(json.dumps({"confluent": frame}))


def read_all():
    for line in sys.stdin:
        asked = json.loads(line)
        schema = fastavro.parse_schema(json.loads(asked["schema"]))
        if "frame" in asked:
            # The deserializer asks its registry for the number in the frame.
            registry = SchemaRegistryClient.new_client({"url": "mock://"})
            known = RegistrySchema(asked["schema"], "AVRO")
            number = registry.register_schema(f"{TOPIC}-value", known)
            frame = base64.b64decode(asked["frame"])
            assert frame[:5] == b"\0" + asked["id"].to_bytes(4, "big"), frame[:5]
            frame = b"\0" + number.to_bytes(4, "big") + frame[5:]
            use("number")
            context = SerializationContext(TOPIC, MessageField.VALUE)
            print(json.dumps({"plain": [plain(AvroDeserializer(registry)(frame, context))]}))
            continue
        said = [read(schema, base64.b64decode(data)) for data in asked["bytes"]]
        use("number")
        file = io.BytesIO(base64.b64decode(asked["file"]))
        records = [plain(record) for record in fastavro.reader(file)]
        print(json.dumps({"plain": said, "file": records}))


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(int(sys.argv[2]), int(sys.argv[3]))
    else:
        read_all()

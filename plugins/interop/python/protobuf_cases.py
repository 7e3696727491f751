"""Protobuf by protoc, Python's protobuf and Confluent's client: what the codec is compared with.

    protobuf_cases.py generate SEED COUNT    schemas and messages: a JSON object a line
    protobuf_cases.py read                   reads bytes of the codec, a JSON object a line, and says what they hold

Values are said by `json_format`: with JSON's names (`plain`), with the schema's (`proto`), and with all fields that cannot
tell absent from zero (`full`).
"""

import base64
import json
import os
import random
import sys
import tempfile

import grpc_tools
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from grpc_tools import protoc

VALUES_EACH = 4
FRAMES = 30
TOPIC = "orders"
INCLUDED = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")

SCALARS = [
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64",
    "float", "double", "bool", "string", "bytes",
]  # fmt: skip
KEYS = [name for name in SCALARS if name not in ("float", "double", "bytes")]
KNOWN = {
    "Timestamp": "timestamp", "Duration": "duration", "FieldMask": "field_mask", "Any": "any", "Struct": "struct",
    "Value": "struct", "ListValue": "struct", "Empty": "empty", "DoubleValue": "wrappers", "FloatValue": "wrappers",
    "Int64Value": "wrappers", "UInt64Value": "wrappers", "Int32Value": "wrappers", "UInt32Value": "wrappers",
    "BoolValue": "wrappers", "StringValue": "wrappers", "BytesValue": "wrappers",
}  # fmt: skip


def text64(data):
    return base64.b64encode(data).decode()


# Schemas.


class Maker:
    def __init__(self, dice, package, syntax, others=()):
        self.dice, self.package, self.syntax = dice, package, syntax
        self.count = 0
        # Names that a field may use, messages and enums.
        self.messages, self.enums = list(others), []

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def file(self, other):
        body = "".join(self.enum("") if self.dice.random() < 0.3 else self.message("", 2) for _ in range(3))
        body += self.message("", 2)
        used = {f"google/protobuf/{file}.proto" for name, file in KNOWN.items() if f"google.protobuf.{name} " in body}
        used |= {f"google/protobuf/{file}.proto" for name, file in KNOWN.items() if f"google.protobuf.{name}>" in body}
        used |= {other} if ".other.place" in body and other else set()
        imports = "".join(f'import "{name}";\n' for name in sorted(used))
        return f'syntax = "{self.syntax}";\n{imports}package {self.package};\n// A {{ bracket\n{body}'

    def enum(self, scope):
        name = self.name("Kind")
        aliases = "  option allow_alias = true;\n" if self.dice.random() < 0.2 else ""
        lines = [f"  {name.upper()}_ZERO = 0;"]
        numbers = self.dice.sample(range(-5, 300), 3)
        lines += [f"  {name.upper()}_N{index} = {number or 301};" for index, number in enumerate(numbers)]
        if aliases:
            lines.append(f"  {name.upper()}_AGAIN = 0;")
        self.enums.append((f".{self.package}{scope}.{name}", "enum"))
        return f"enum {name} {{\n{aliases}" + "\n".join(lines) + "\n}\n"

    def message(self, scope, depth):
        dice, name = self.dice, self.name("Message")
        inner = f"{scope}.{name}"
        # A message may hold itself and those before it.
        self.messages.append(f".{self.package}{inner}")
        parts = [self.message(inner, depth - 1) for _ in range(dice.choice([0, 0, 1, 2]) if depth else 0)]
        if dice.random() < 0.3:
            parts.append(self.enum(inner))
        numbers = iter(dice.sample([*range(1, 40), 255, 256, 1000, 20000, 536870911], 24))
        for _ in range(dice.randint(1, 9)):
            parts.append(self.field(next(numbers)))
        if dice.random() < 0.4:
            inner_fields = "".join(self.one_of(next(numbers)) for _ in range(3))
            parts.append(f"oneof {self.name('choice')} {{\n{inner_fields}}}\n")
        return f"message {name} {{\n{''.join(parts)}}}\n"

    def type(self):
        dice = self.dice
        roll = dice.random()
        if roll < 0.55:
            return dice.choice(SCALARS)
        if roll < 0.68 and self.enums:
            return dice.choice(self.enums)[0]
        if roll < 0.84:
            return dice.choice(self.messages)
        return f"google.protobuf.{dice.choice(list(KNOWN))}"

    def one_of(self, number):
        return f"  {self.type()} {self.name('one_field_')} = {number};\n"

    def field(self, number):
        dice, kind, name = self.dice, self.type(), self.name(self.dice.choice(["field", "a_field_", "_x", "two_words"]))
        roll = dice.random()
        options = ""
        if dice.random() < 0.1:
            options = f' [json_name = "own{number}"]'
        if roll < 0.15:
            return f"  map<{dice.choice(KEYS)}, {kind}> {name} = {number}{options};\n"
        if roll < 0.35:
            if kind in SCALARS and kind not in ("string", "bytes") and dice.random() < 0.4:
                options = f" [packed = {dice.choice(['true', 'false'])}]"
            return f"  repeated {kind} {name} = {number}{options};\n"
        if self.syntax == "proto2":
            if roll < 0.42:
                inner = f"optional {dice.choice(SCALARS)} {self.name('in_group')} = 1;"
                label = dice.choice(["optional", "repeated"])
                return f"  {label} group {self.name('Group')} = {number} {{ {inner} }}\n"
            label = "required" if roll < 0.5 and kind in SCALARS else "optional"
            default = " [default = 7]" if kind == "int32" and not options else options
            return f"  {label} {kind} {name} = {number}{default};\n"
        label = "optional " if dice.random() < 0.3 else ""
        return f"  {label}{kind} {name} = {number}{options};\n"


def compiled(files):
    """Descriptors by protoc itself: a set of them, the last the main file's."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        out = os.path.join(folder, "set.bin")
        asked = ["protoc", f"-I{folder}", f"-I{INCLUDED}", "--include_imports", f"--descriptor_set_out={out}"]
        assert protoc.main([*asked, list(files)[-1]]) == 0, files
        with open(out, "rb") as file:
            return descriptor_pb2.FileDescriptorSet.FromString(file.read())


def pool_of(descriptors):
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    return pool


# Messages.


class Values:
    def __init__(self, dice, pool, descriptors):
        self.dice, self.pool = dice, pool
        # What an Any may hold: the schema's own messages, and of Google's those that are there.
        self.own = [name for name, _ in messages_of(descriptors.file[-1])]
        self.held = {f"{file.package}.{message.name}" for file in descriptors.file for message in file.message_type}

    def scalar(self, field):
        dice = self.dice
        kinds = FieldDescriptor
        signed, unsigned = [0, 1, -1], [0, 1]
        cases = {
            kinds.CPPTYPE_INT32: lambda: dice.choice([*signed, 2**31 - 1, -(2**31), dice.randint(-1000, 1000)]),
            kinds.CPPTYPE_INT64: lambda: dice.choice([*signed, 2**63 - 1, -(2**63), dice.randint(-(2**40), 2**40)]),
            kinds.CPPTYPE_UINT32: lambda: dice.choice([*unsigned, 2**32 - 1, dice.randint(0, 1000)]),
            kinds.CPPTYPE_UINT64: lambda: dice.choice([*unsigned, 2**64 - 1, dice.randint(0, 2**40)]),
            kinds.CPPTYPE_DOUBLE: lambda: dice.choice([0.0, -0.0, 1.5, 1e300, float("inf"), float("nan"), dice.random()]),
            kinds.CPPTYPE_FLOAT: lambda: dice.choice([0.0, 1.5, 3.4028234e38, float("-inf"), dice.random()]),
            kinds.CPPTYPE_BOOL: lambda: dice.choice([True, False]),
        }
        if field.cpp_type in cases:
            return cases[field.cpp_type]()
        if field.cpp_type == kinds.CPPTYPE_ENUM:
            numbers = [value.number for value in field.enum_type.values]
            if field.enum_type.file.name != "google/protobuf/struct.proto" and not field.enum_type.is_closed:
                numbers.append(12345)
            return dice.choice(numbers)
        if field.type == kinds.TYPE_BYTES:
            return bytes(dice.randrange(256) for _ in range(dice.choice([0, 1, 2, 3, 200])))
        return dice.choice(["", "text", "\u00fc \"quoted\" \\ \n\t\u0001 \U0001f35c", "x" * 130])

    def fill(self, message, depth):
        name = message.DESCRIPTOR.full_name.removeprefix("google.protobuf.")
        if name in KNOWN and message.DESCRIPTOR.full_name.startswith("google"):
            return self.fill_known(message, name, depth)
        for field in message.DESCRIPTOR.fields:
            if not field.is_required and self.dice.random() < 0.3:
                continue
            if field.containing_oneof and self.dice.random() < 0.5:
                continue
            self.fill_field(message, field, depth)
        return message

    def fill_field(self, message, field, depth):
        dice, value = self.dice, getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            key, item = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for _ in range(dice.randint(0, 3)):
                if not item.message_type:
                    value[self.scalar(key)] = self.scalar(item)
                elif depth:
                    self.fill(value[self.scalar(key)], depth - 1)
        elif field.is_repeated:
            for _ in range(dice.randint(0, 3)):
                if not field.message_type:
                    value.append(self.scalar(field))
                elif depth:
                    self.fill(value.add(), depth - 1)
        elif field.message_type:
            if depth:
                value.SetInParent()
                self.fill(value, depth - 1)
        else:
            setattr(message, field.name, self.scalar(field))

    def fill_known(self, message, name, depth):
        dice = self.dice
        if name == "Timestamp":
            message.seconds = dice.choice([0, -62135596800, 253402300799, dice.randint(-(10**9), 2 * 10**9)])
            message.nanos = dice.choice([0, 250_000_000, 123_456_000, 999_999_999])
        elif name == "Duration":
            sign = dice.choice([1, -1])
            message.seconds = sign * dice.choice([0, 1, 315576000000, dice.randint(0, 10**6)])
            message.nanos = sign * dice.choice([0, 500_000_000, 1_000, 999_999_999])
        elif name == "FieldMask":
            message.paths.extend(dice.sample(["a", "some_path", "deep.in_it.x"], dice.randint(0, 3)))
        elif name == "Any":
            known = ["google.protobuf.Any", "google.protobuf.Duration", "google.protobuf.Struct"]
            names = [one for one in known if one in self.held]
            names += [one for one in self.own if dice.random() < 0.5]
            inner = message_factory.GetMessageClass(self.pool.FindMessageTypeByName(dice.choice(names)))()
            if depth:
                message.Pack(self.fill(inner, depth - 1))
        elif name == "Struct":
            for _ in range(dice.randint(0, 3)):
                self.fill_value(message.fields[dice.choice(["a", "b_c", "\u00fc"])], depth)
        elif name == "ListValue":
            for _ in range(dice.randint(0, 3)):
                self.fill_value(message.values.add(), depth)
        elif name == "Value":
            self.fill_value(message, depth)
        elif name != "Empty":
            message.value = self.scalar(message.DESCRIPTOR.fields_by_name["value"])
        return message

    def fill_value(self, value, depth):
        roll = self.dice.randint(0, 5 if depth else 3)
        if roll == 0:
            value.null_value = 0
        elif roll == 1:
            value.number_value = self.dice.choice([0, -1.5, 1e20, self.dice.random()])
        elif roll == 2:
            value.string_value = self.dice.choice(["", "t\u00fc"])
        elif roll == 3:
            value.bool_value = self.dice.choice([True, False])
        elif roll == 4:
            value.struct_value.SetInParent()
            self.fill_known(value.struct_value, "Struct", depth - 1)
        else:
            value.list_value.SetInParent()
            self.fill_known(value.list_value, "ListValue", depth - 1)


def said(message, pool, **more):
    return json_format.MessageToDict(message, descriptor_pool=pool, **more)


def messages_of(file):
    """All that the main file declares, with their paths as the registry counts them."""
    found = []

    def add(message, path, scope):
        found.append((f"{scope}.{message.name}", path))
        inner = [nested for nested in message.nested_type if not nested.options.map_entry]
        for index, nested in enumerate(inner):
            add(nested, [*path, index], f"{scope}.{message.name}")

    for index, message in enumerate(file.message_type):
        add(message, [index], file.package)
    return found


def schema_case(dice):
    syntax = dice.choice(["proto2", "proto3", "proto3"])
    files, others, imported = {}, [], ""
    if dice.random() < 0.4:
        # proto3 takes no enums of proto2, so only messages are taken.
        other = Maker(dice, "other.place", dice.choice(["proto2", "proto3"]))
        files["other.proto"] = other.file("")
        others, imported = other.messages, "other.proto"
    files["main.proto"] = Maker(dice, dice.choice(["one", "one.two"]), syntax, others).file(imported)
    descriptors = compiled(files)
    return files, descriptors


def case(dice):
    files, descriptors = schema_case(dice)
    pool = pool_of(descriptors)
    values = Values(dice, pool, descriptors)
    main = descriptors.file[-1]
    names = messages_of(main)
    later, later_pool = later_of(dice, descriptors)
    made = []
    for _ in range(VALUES_EACH):
        name, path = dice.choice(names)
        message = values.fill(message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(), 3)
        data = message.SerializeToString()
        as_later = message_factory.GetMessageClass(later_pool.FindMessageTypeByName(name)).FromString(data)
        made.append(
            {
                "message": name,
                "path": path,
                "bytes": text64(data),
                "plain": said(message, pool),
                "proto": said(message, pool, preserving_proto_field_name=True),
                "full": said(message, pool, always_print_fields_with_no_presence=True),
                "later": said(as_later, later_pool),
            }
        )
    return {
        "schema": files["main.proto"],
        "references": [[name, text] for name, text in files.items() if name != "main.proto"],
        "set": text64(descriptors.SerializeToString()),
        "later": text64(later.SerializeToString()),
        "values": made,
    }


def later_of(dice, descriptors):
    """A later version of the main file: fields gone, renamed, and wider than before."""
    later = descriptor_pb2.FileDescriptorSet.FromString(descriptors.SerializeToString())
    kinds = descriptor_pb2.FieldDescriptorProto
    wider = {
        kinds.TYPE_INT32: kinds.TYPE_INT64,
        kinds.TYPE_UINT32: kinds.TYPE_UINT64,
        kinds.TYPE_SINT32: kinds.TYPE_SINT64,
        kinds.TYPE_BOOL: kinds.TYPE_UINT64,
        kinds.TYPE_STRING: kinds.TYPE_BYTES,
    }

    def change(message):
        for nested in message.nested_type:
            if not nested.options.map_entry:
                change(nested)
        for field in list(message.field):
            roll = dice.random()
            if roll < 0.2 and not field.HasField("oneof_index"):
                message.field.remove(field)
            elif roll < 0.4:
                field.name = f"new_{field.name}"
                field.ClearField("json_name")
            elif roll < 0.6 and field.type in wider and not field.HasField("default_value"):
                field.type = wider[field.type]

    for message in later.file[-1].message_type:
        change(message)
    return later, pool_of(later)


def frames(dice):
    """Of Confluent's own serializer, by a registry in memory. The schema is as the registry has it."""
    for _ in range(FRAMES):
        registry = SchemaRegistryClient.new_client({"url": "mock://"})
        context = SerializationContext(TOPIC, MessageField.VALUE)
        files, descriptors = schema_case(dice)
        pool = pool_of(descriptors)
        values = Values(dice, pool, descriptors)
        names = messages_of(descriptors.file[-1])
        for name, path in names:
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            if in_python(kind.DESCRIPTOR) != path:
                # Python counts the entries of maps as messages of the file, the registry does not.
                continue
            message = values.fill(kind(), 2)
            serializer = ProtobufSerializer(kind, registry, {"use.deprecated.format": False})
            frame = serializer(message, context)
            yield {
                "schema": files["main.proto"],
                "references": [[name, text] for name, text in files.items() if name != "main.proto"],
                "id": int.from_bytes(frame[1:5], "big"),
                "message": name,
                "frame": text64(frame),
                "plain": said(message, pool),
            }


def in_python(descriptor):
    path = []
    while descriptor.containing_type:
        path.insert(0, [one.name for one in descriptor.containing_type.nested_types].index(descriptor.name))
        descriptor = descriptor.containing_type
    names = list(descriptor.file.message_types_by_name)
    return [names.index(descriptor.name), *path]


def generate(seed, count):
    dice = random.Random(seed)
    for _ in range(count):
        print(json.dumps({"case": case(dice)}))
    for frame in frames(dice):
        print(json.dumps({"confluent": frame}))


def read_all():
    for line in sys.stdin:
        asked = json.loads(line)
        files = {**dict(asked["references"]), "main.proto": asked["schema"]}
        pool = pool_of(compiled(files))
        said_all = []
        for name, data in asked["messages"]:
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
            data = base64.b64decode(data)
            if asked.get("framed"):
                context = SerializationContext(TOPIC, MessageField.VALUE)
                message = ProtobufDeserializer(kind, {"use.deprecated.format": False})(data, context)
            else:
                message = kind.FromString(data)
            said_all.append(said(message, pool))
        print(json.dumps(said_all))


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(int(sys.argv[2]), int(sys.argv[3]))
    else:
        read_all()

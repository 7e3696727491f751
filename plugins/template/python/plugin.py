"""Refuses orders with a negative amount and marks the others as checked."""

import json
import re
from itertools import accumulate

from wit_world import exports
from wit_world.exports.meta import Description, Promises
from wit_world.imports.config import Field, FieldType, Importance, Validator_OneOf, Width
from wit_world.imports.types import (
    Message,
    Needs,
    Outcome_Keep,
    Outcome_Reject,
    Outcome_Replace,
    Rejection,
    Routed,
)

MODES = ["mark", "validate", "off"]
DEPTH_MAX = 500
mode = "mark"


class Meta(exports.Meta):
    def describe(self):
        mode = Field(
            name="mode",
            kind=FieldType.STRING,
            default_value="mark",
            validators=[Validator_OneOf(MODES)],
            importance=Importance.MEDIUM,
            documentation="mark: check and add a field; validate: only check; off: let everything pass",
            group=None,
            order_in_group=0,
            width=Width.SHORT,
            display_name="Mode",
            dependents=[],
            internal=False,
            aliases=[],
            deprecated=None,
            example=None,
            extra=[],
        )
        return Description(
            name="plugin-name",
            version="0.1.0",
            summary="Refuses orders with a negative amount and marks the others as checked",
            documentation="",
            fields=[mode],
            capabilities=[],
            needs=Needs.VALUE,
            promises=Promises.DETERMINISTIC | Promises.STATELESS,
            memory_mb=None,
            batch_ms=None,
            extra=[],
        )

    def validate(self, values):
        return []


class Transform(exports.Transform):
    def open(self, values):
        global mode
        mode = next((value.value for value in values if value.name == "mode"), None) or "mark"

    def process(self, batch):
        return [outcome(message) for message in batch.messages]


def outcome(message):
    if mode == "off" or message.value is None:
        return Outcome_Keep()
    try:
        text = message.value.decode()
        check_depth(text)
        order = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        return reject("not-json", str(error))
    if not isinstance(order, dict):
        return reject("not-an-object", "the value is JSON, and not an object")
    amount = order.get("amount")
    if isinstance(amount, (int, float)) and amount < 0:
        return reject("negative-amount", f"{amount} is below 0", "/amount")
    if mode == "validate" or "checked" in order:
        return Outcome_Keep()
    value = with_checked(text, is_empty=not order).encode()
    return Outcome_Replace(Routed(None, Message(message.key, value, message.headers, message.timestamp)))


def reject(code, reason, field=None):
    return Outcome_Reject(Rejection(code, reason, field))


def check_depth(text):
    """Python's reader takes stack for each level. At some 900 there is none left, which is a trap and no error."""
    if text.count("[") + text.count("{") > DEPTH_MAX:
        brackets = re.sub(r'"(?:[^"\\]|\\.)*"|[^][{}]', "", text)
        if max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > DEPTH_MAX:
            raise ValueError(f"it is nested deeper than {DEPTH_MAX} levels")


def no_constant(name):
    """Python's reader takes NaN and Infinity; JSON has neither."""
    raise ValueError(f"{name} is not JSON")


def with_checked(text, is_empty):
    """Puts the field before the closing brace: all else keeps its spelling, numbers of any length too."""
    return text.rstrip()[:-1] + ("" if is_empty else ",") + '"checked":true}'

// Reads JSON (RFC 8259) where it lies: nothing is copied, allocated or changed.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// A value, as it is spelled in the text that was read.
typedef struct {
  const char *start;
  size_t length;
} json;

// Whether the whole text is one value, in UTF-8 and nested at most 128 deep; the value is what stands between the
// white space around it. The functions below take only what this one has read.
bool json_read(const char *text, size_t length, json *value);

bool json_is_object(json value);

// An object or a list without entries.
bool json_is_empty(json value);

// The last member of that name (ASCII), as most readers take it. `value` may be NULL.
bool json_member(json object, const char *name, json *value);

// The number that a member holds. False where it is no number.
bool json_number(json value, double *number);

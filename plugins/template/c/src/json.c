#include "json.h"

#include <stdlib.h>
#include <string.h>

// Deep enough for any order, and far from the end of the stack.
#define DEPTH_MAX 128

typedef struct {
  const unsigned char *at, *end;
} reader;

static bool skip_value(reader *r, int depth);

// The byte that comes next; 0, which no text of JSON holds outside of an error, at the end.
static unsigned char next(const reader *r) { return r->at < r->end ? *r->at : 0; }

static bool skip_byte(reader *r, char byte) {
  if (r->at == r->end || *r->at != (unsigned char)byte) return false;
  r->at++;
  return true;
}

static bool is_space(unsigned char byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }

static void skip_space(reader *r) {
  while (is_space(next(r))) r->at++;
}

static bool skip_word(reader *r, const char *word) {
  size_t length = strlen(word);
  if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return false;
  r->at += length;
  return true;
}

static bool skip_digits(reader *r) {
  const unsigned char *start = r->at;
  while (next(r) >= '0' && next(r) <= '9') r->at++;
  return r->at > start;
}

static bool skip_number(reader *r) {
  skip_byte(r, '-');
  if (!skip_byte(r, '0') && !skip_digits(r)) return false;
  if (skip_byte(r, '.') && !skip_digits(r)) return false;
  if (skip_byte(r, 'e') || skip_byte(r, 'E')) {
    if (!skip_byte(r, '+')) skip_byte(r, '-');
    if (!skip_digits(r)) return false;
  }
  return true;
}

static int hex(unsigned char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  digit |= 0x20;
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

// What stands behind a backslash. Answers the character, or -1.
static int skip_escape(reader *r) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  unsigned char letter = next(r);
  const char *found = letter ? strchr(from, letter) : NULL;
  if (found) {
    r->at++;
    return to[found - from];
  }
  if (!skip_byte(r, 'u')) return -1;
  int character = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex(next(r));
    if (digit < 0) return -1;
    character = character << 4 | digit;
    r->at++;
  }
  return character;
}

// One character beyond ASCII, in the only form that UTF-8 allows for it (Unicode, table 3-7).
static bool skip_utf8(reader *r) {
  unsigned char first = *r->at++;
  int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4) return false;
  unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (; more > 0; more--, low = 0x80, high = 0xBF) {
    if (r->at == r->end || *r->at < low || *r->at > high) return false;
    r->at++;
  }
  return true;
}

static bool skip_string(reader *r) {
  if (!skip_byte(r, '"')) return false;
  while (r->at < r->end) {
    unsigned char byte = *r->at;
    if (byte >= 0x80) {
      if (!skip_utf8(r)) return false;
      continue;
    }
    r->at++;
    if (byte == '"') return true;
    if (byte < 0x20 || (byte == '\\' && skip_escape(r) < 0)) return false;
  }
  return false;
}

// A member up to its value. `name` gets where the name's quotation mark stands.
static bool skip_name(reader *r, reader *name) {
  skip_space(r);
  *name = *r;
  if (!skip_string(r)) return false;
  skip_space(r);
  return skip_byte(r, ':');
}

static bool skip_entries(reader *r, char close, int depth) {
  reader name;
  skip_space(r);
  if (skip_byte(r, close)) return true;
  do {
    if (close == '}' && !skip_name(r, &name)) return false;
    if (!skip_value(r, depth)) return false;
  } while (skip_byte(r, ','));
  return skip_byte(r, close);
}

// A value with the white space around it.
static bool skip_value(reader *r, int depth) {
  if (depth == 0) return false;
  skip_space(r);
  bool good;
  switch (next(r)) {
  case '{': r->at++; good = skip_entries(r, '}', depth - 1); break;
  case '[': r->at++; good = skip_entries(r, ']', depth - 1); break;
  case '"': good = skip_string(r); break;
  case 't': good = skip_word(r, "true"); break;
  case 'f': good = skip_word(r, "false"); break;
  case 'n': good = skip_word(r, "null"); break;
  default: good = skip_number(r);
  }
  skip_space(r);
  return good;
}

static reader reader_of(const char *text, size_t length) {
  return (reader){(const unsigned char *)text, (const unsigned char *)text + length};
}

// A value that was read up to `end`, without the white space behind it.
static json value_between(const unsigned char *start, const unsigned char *end) {
  while (is_space(end[-1])) end--;
  return (json){(const char *)start, (size_t)(end - start)};
}

bool json_read(const char *text, size_t length, json *value) {
  reader r = reader_of(text, length);
  skip_space(&r);
  const unsigned char *start = r.at;
  if (!skip_value(&r, DEPTH_MAX) || r.at != r.end) return false;
  *value = value_between(start, r.end);
  return true;
}

bool json_is_object(json value) { return value.start[0] == '{'; }

bool json_is_empty(json value) {
  reader r = reader_of(value.start + 1, value.length - 1);
  skip_space(&r);
  return r.at + 1 == r.end;
}

// Whether the string that begins here is spelled `name`, with or without escapes.
static bool is_named(reader r, const char *name) {
  r.at++;
  for (; next(&r) != '"'; name++) {
    int character = *r.at++;
    if (character == '\\') character = skip_escape(&r);
    if (*name == 0 || character != (unsigned char)*name) return false;
  }
  return *name == 0;
}

bool json_member(json object, const char *name, json *value) {
  reader r = reader_of(object.start + 1, object.length - 1), found;
  bool is_there = false;
  if (json_is_empty(object)) return false;
  do {
    skip_name(&r, &found);
    skip_space(&r);
    const unsigned char *start = r.at;
    skip_value(&r, DEPTH_MAX);
    if (!is_named(found, name)) continue;
    is_there = true;
    if (value) *value = value_between(start, r.at);
  } while (skip_byte(&r, ','));
  return is_there;
}

bool json_number(json value, double *number) {
  if (value.start[0] != '-' && (value.start[0] < '0' || value.start[0] > '9')) return false;
  // A member is followed by a comma, a brace or white space: strtod stops there.
  *number = strtod(value.start, NULL);
  return true;
}

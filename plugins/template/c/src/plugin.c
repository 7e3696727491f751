// Refuses orders with a negative amount and marks the others as checked.
//
// Memory: what a call answers is freed by the bindings once it has crossed, so every string and list in it comes from
// the heap (plugin_string_dup, allocate). What a call was given belongs to it, and is freed at its end.

#include "json.h"
#include "plugin.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

static enum { MARK, VALIDATE, OFF } mode;

// Zeroed memory; without any left the plugin ends here, and the gateway opens a fresh instance.
static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) abort();
  return memory;
}

static bool is(plugin_string_t text, const char *word) {
  return text.len == strlen(word) && memcmp(text.ptr, word, text.len) == 0;
}

// What the plugin is

static void describe_mode(culvert_plugin_config_field_t *field) {
  static const char *const modes[] = {"mark", "validate", "off"};
  plugin_string_dup(&field->name, "mode");
  field->kind = CULVERT_PLUGIN_CONFIG_FIELD_TYPE_STRING;
  field->default_value.is_some = true;
  plugin_string_dup(&field->default_value.val, modes[0]);
  field->importance = CULVERT_PLUGIN_CONFIG_IMPORTANCE_MEDIUM;
  field->width = CULVERT_PLUGIN_CONFIG_WIDTH_SHORT;
  plugin_string_dup(&field->display_name, "Mode");
  plugin_string_dup(&field->documentation, "mark: check and add a field; validate: only check; off: let everything pass");

  culvert_plugin_config_validator_t *one_of = allocate(1, sizeof *one_of);
  one_of->tag = CULVERT_PLUGIN_CONFIG_VALIDATOR_ONE_OF;
  one_of->val.one_of.len = LENGTH(modes);
  one_of->val.one_of.ptr = allocate(LENGTH(modes), sizeof *one_of->val.one_of.ptr);
  for (size_t i = 0; i < LENGTH(modes); i++) plugin_string_dup(&one_of->val.one_of.ptr[i], modes[i]);
  field->validators.len = 1;
  field->validators.ptr = one_of;
}

void exports_culvert_plugin_meta_describe(exports_culvert_plugin_meta_description_t *description) {
  memset(description, 0, sizeof *description); // empty texts, empty lists, no options
  plugin_string_dup(&description->name, "plugin-name");
  plugin_string_dup(&description->version, "0.1.0");
  plugin_string_dup(&description->summary, "Refuses orders with a negative amount and marks the others as checked");
  description->fields.len = 1;
  description->fields.ptr = allocate(1, sizeof *description->fields.ptr);
  describe_mode(&description->fields.ptr[0]);
  description->needs = CULVERT_PLUGIN_TYPES_NEEDS_VALUE;
  description->promises =
      EXPORTS_CULVERT_PLUGIN_META_PROMISES_DETERMINISTIC | EXPORTS_CULVERT_PLUGIN_META_PROMISES_STATELESS;
}

void exports_culvert_plugin_meta_validate(exports_culvert_plugin_meta_list_value_t *values,
                                          exports_culvert_plugin_meta_list_verdict_t *verdicts) {
  exports_culvert_plugin_meta_list_value_free(values);
  verdicts->ptr = NULL;
  verdicts->len = 0;
}

// What it does

bool exports_culvert_plugin_transform_open(exports_culvert_plugin_transform_list_value_t *values,
                                           exports_culvert_plugin_transform_failure_t *failure) {
  (void)failure; // nothing can go wrong here; otherwise: fill it in, return false
  for (size_t i = 0; i < values->len; i++) {
    if (!is(values->ptr[i].name, "mode") || !values->ptr[i].value.is_some) continue;
    plugin_string_t value = values->ptr[i].value.val;
    mode = is(value, "off") ? OFF : is(value, "validate") ? VALIDATE : MARK;
  }
  exports_culvert_plugin_transform_list_value_free(values);
  return true;
}

static void reject(culvert_plugin_types_outcome_t *outcome, const char *code, const char *reason, const char *field) {
  outcome->tag = CULVERT_PLUGIN_TYPES_OUTCOME_REJECT;
  plugin_string_dup(&outcome->val.reject.code, code);
  plugin_string_dup(&outcome->val.reject.reason, reason);
  outcome->val.reject.field.is_some = field != NULL;
  if (field) plugin_string_dup(&outcome->val.reject.field.val, field);
}

// Puts the field before the closing brace: all else keeps its spelling, numbers of any length too.
static void add_checked(json object, plugin_list_u8_t *value) {
  const char *field = json_is_empty(object) ? "\"checked\":true}" : ",\"checked\":true}";
  size_t before = (size_t)((const uint8_t *)object.start - value->ptr) + object.length - 1;
  size_t length = strlen(field);
  uint8_t *text = allocate(before + length, 1);
  memcpy(text, object.start, before);
  memcpy(text + before, field, length);
  free(value->ptr);
  value->ptr = text;
  value->len = before + length;
}

static void transform(culvert_plugin_types_message_t *message, culvert_plugin_types_outcome_t *outcome) {
  outcome->tag = CULVERT_PLUGIN_TYPES_OUTCOME_KEEP;
  if (mode == OFF || !message->value.is_some) return;
  plugin_list_u8_t *value = &message->value.val;

  json order, amount;
  double number;
  if (!json_read((const char *)value->ptr, value->len, &order)) {
    reject(outcome, "not-json", "the value is not JSON", NULL);
    return;
  }
  if (!json_is_object(order)) {
    reject(outcome, "not-an-object", "the value is JSON, and not an object", NULL);
    return;
  }
  if (json_member(order, "amount", &amount) && json_number(amount, &number) && number < 0) {
    reject(outcome, "negative-amount", "amount is below 0", "/amount");
    return;
  }
  if (mode == VALIDATE || json_member(order, "checked", NULL)) return;

  add_checked(order, value);
  outcome->tag = CULVERT_PLUGIN_TYPES_OUTCOME_REPLACE;
  outcome->val.replace.message = *message;
  memset(message, 0, sizeof *message); // it has moved into the outcome, and must not be freed with the batch
}

bool exports_culvert_plugin_transform_process(exports_culvert_plugin_transform_batch_t *batch,
                                              exports_culvert_plugin_transform_list_outcome_t *outcomes,
                                              exports_culvert_plugin_transform_failure_t *failure) {
  (void)failure;
  outcomes->len = batch->messages.len;
  outcomes->ptr = allocate(outcomes->len, sizeof *outcomes->ptr);
  for (size_t i = 0; i < outcomes->len; i++) transform(&batch->messages.ptr[i], &outcomes->ptr[i]);
  exports_culvert_plugin_transform_batch_free(batch);
  return true;
}

// Package plugin refuses orders with a negative amount and marks the others as checked.
//
// Each function of the exported interfaces is a function of this package, under the same name.
package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	config "example.org/plugin-name/bindings/culvert_plugin_config"
	meta "example.org/plugin-name/bindings/culvert_plugin_meta"
	. "example.org/plugin-name/bindings/culvert_plugin_types"
	. "go.bytecodealliance.org/pkg/wit/types"
)

const (
	modeMark     = "mark"
	modeValidate = "validate"
	modeOff      = "off"
)

var mode = modeMark

// Describe says what the plugin is. It runs when the plugin is built.
func Describe() meta.Description {
	return meta.Description{
		Name:    "plugin-name",
		Version: "0.1.0",
		Summary: "Refuses orders with a negative amount and marks the others as checked",
		Fields: []config.Field{{
			Name:          "mode",
			Kind:          config.FieldTypeString,
			DefaultValue:  Some(modeMark),
			Validators:    []config.Validator{config.MakeValidatorOneOf([]string{modeMark, modeValidate, modeOff})},
			Importance:    config.ImportanceMedium,
			Documentation: "mark: check and add a field; validate: only check; off: let everything pass",
			Width:         config.WidthShort,
			DisplayName:   "Mode",
		}},
		Needs:    NeedsValue,
		Promises: meta.PromisesDeterministic | meta.PromisesStateless,
	}
}

// Validate has nothing to add to the checks that Describe names.
func Validate([]config.Value) []meta.Verdict { return nil }

// Open takes the settings. It is called once, before Process.
func Open(values []config.Value) Result[Unit, Failure] {
	for _, value := range values {
		if value.Name == "mode" {
			mode = value.Value.SomeOr(modeMark)
		}
	}
	return Ok[Unit, Failure](Unit{})
}

// Process answers one outcome for each message, in order.
func Process(batch Batch) Result[[]Outcome, Failure] {
	outcomes := make([]Outcome, len(batch.Messages))
	for i, message := range batch.Messages {
		outcomes[i] = transform(message)
	}
	return Ok[[]Outcome, Failure](outcomes)
}

func transform(message Message) Outcome {
	if mode == modeOff || message.Value.IsNone() {
		return MakeOutcomeKeep()
	}
	value := message.Value.Some()
	var read any
	if err := json.Unmarshal(value, &read); err != nil {
		return reject("not-json", err.Error(), None[string]())
	}
	if !utf8.Valid(value) { // Unmarshal mends it in silence
		return reject("not-json", "the value is not UTF-8", None[string]())
	}
	order, isObject := read.(map[string]any)
	if !isObject {
		return reject("not-an-object", "the value is JSON, and not an object", None[string]())
	}
	if amount, isNumber := order["amount"].(float64); isNumber && amount < 0 {
		return reject("negative-amount", fmt.Sprintf("%v is below 0", amount), Some("/amount"))
	}
	if _, isMarked := order["checked"]; isMarked || mode == modeValidate {
		return MakeOutcomeKeep()
	}
	message.Value = Some(withChecked(value, len(order) == 0))
	return MakeOutcomeReplace(Routed{Topic: None[string](), Message: message})
}

func reject(code, reason string, field Option[string]) Outcome {
	return MakeOutcomeReject(Rejection{Code: code, Reason: reason, Field: field})
}

// withChecked puts the field before the closing brace: all else keeps its spelling, numbers of any length too.
func withChecked(object []byte, isEmpty bool) []byte {
	field := `,"checked":true}`
	if isEmpty {
		field = field[1:]
	}
	body := bytes.TrimRight(object, " \t\r\n")
	return append(body[:len(body)-1:len(body)-1], field...)
}

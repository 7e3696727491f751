// Refuses orders with a negative amount and marks the others as checked.

/** @import { Meta, Transform, types } from './bindings/culvert' */

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

let mode = 'mark';

/** @type {Meta} */
export const meta = {
  describe: () => ({
    name: 'plugin-name',
    version: '0.1.0',
    summary: 'Refuses orders with a negative amount and marks the others as checked',
    documentation: '',
    fields: [
      {
        name: 'mode',
        kind: 'string',
        defaultValue: 'mark',
        validators: [{ tag: 'one-of', val: ['mark', 'validate', 'off'] }],
        importance: 'medium',
        documentation: 'mark: check and add a field; validate: only check; off: let everything pass',
        orderInGroup: 0,
        width: 'short',
        displayName: 'Mode',
        dependents: [],
        internal: false,
        aliases: [],
        extra: [],
      },
    ],
    capabilities: [],
    needs: { value: true },
    promises: { deterministic: true, stateless: true },
    extra: [],
  }),
  validate: () => [],
};

/** @type {Transform} */
export const transform = {
  open(values) {
    mode = values.find((value) => value.name === 'mode')?.value ?? 'mark';
  },
  process: (batch) => batch.messages.map(outcome),
};

/** @param {types.Message} message @returns {types.Outcome} */
function outcome(message) {
  if (mode === 'off' || message.value == null) return { tag: 'keep' };
  let text, order;
  try {
    text = decoder.decode(message.value);
    order = JSON.parse(text);
  } catch (error) {
    return reject('not-json', String(error));
  }
  if (order === null || typeof order !== 'object' || Array.isArray(order)) {
    return reject('not-an-object', 'the value is JSON, and not an object');
  }
  if (typeof order.amount === 'number' && order.amount < 0) {
    return reject('negative-amount', `${order.amount} is below 0`, '/amount');
  }
  if (mode === 'validate' || Object.hasOwn(order, 'checked')) return { tag: 'keep' };
  const value = encoder.encode(withChecked(text, Object.keys(order).length === 0));
  return { tag: 'replace', val: { message: { ...message, value } } };
}

/** @param {string} code @param {string} reason @param {string} [field] @returns {types.Outcome} */
function reject(code, reason, field) {
  return { tag: 'reject', val: { code, reason, field } };
}

// Puts the field before the closing brace: all else keeps its spelling, numbers beyond 2^53 too.
/** @param {string} text @param {boolean} isEmpty */
function withChecked(text, isEmpty) {
  return `${text.trimEnd().slice(0, -1)}${isEmpty ? '' : ','}"checked":true}`;
}

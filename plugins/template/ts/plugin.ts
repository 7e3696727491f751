// Refuses orders with a negative amount and marks the others as checked.

import type { Meta, Transform, types } from './bindings/culvert';

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

const MODES = ['mark', 'validate', 'off'];
let mode = 'mark';

export const meta: Meta = {
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
        validators: [{ tag: 'one-of', val: MODES }],
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

export const transform: Transform = {
  open(values) {
    mode = values.find((value) => value.name === 'mode')?.value ?? 'mark';
  },
  process: (batch) => batch.messages.map(outcome),
};

function outcome(message: types.Message): types.Outcome {
  if (mode === 'off' || message.value == null) return { tag: 'keep' };
  let text: string, order: unknown;
  try {
    text = decoder.decode(message.value);
    order = JSON.parse(text);
  } catch (error) {
    return reject('not-json', String(error));
  }
  if (!isObject(order)) return reject('not-an-object', 'the value is JSON, and not an object');
  if (typeof order.amount === 'number' && order.amount < 0) {
    return reject('negative-amount', `${order.amount} is below 0`, '/amount');
  }
  if (mode === 'validate' || Object.hasOwn(order, 'checked')) return { tag: 'keep' };
  const value = encoder.encode(withChecked(text, Object.keys(order).length === 0));
  return { tag: 'replace', val: { message: { ...message, value } } };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function reject(code: string, reason: string, field?: string): types.Outcome {
  return { tag: 'reject', val: { code, reason, field } };
}

// Puts the field before the closing brace: all else keeps its spelling, numbers beyond 2^53 too.
function withChecked(text: string, isEmpty: boolean): string {
  return `${text.trimEnd().slice(0, -1)}${isEmpty ? '' : ','}"checked":true}`;
}

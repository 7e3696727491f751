// TextDecoder and TextEncoder for UTF-8, which QuickJS does not have. Loaded before the plugin.

const CHUNK = 8192; // arguments that one call takes safely

function isAscii(text) {
  return /^[\x00-\x7f]*$/.test(text);
}

globalThis.TextDecoder ??= class {
  #fatal;

  constructor(label = 'utf-8', { fatal = false } = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`only UTF-8 is known here, not ${label}`);
    this.#fatal = fatal;
  }

  decode(bytes = new Uint8Array()) {
    let text = '';
    for (let at = 0; at < bytes.length; at += CHUNK) {
      text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK));
    }
    if (isAscii(text)) return text;
    try {
      return decodeURIComponent(escape(text));
    } catch {
      if (this.#fatal) throw new TypeError('the bytes are not UTF-8');
      return mended(bytes);
    }
  }
};

globalThis.TextEncoder ??= class {
  encode(text = '') {
    text = String(text);
    const single = isAscii(text) ? text : unescape(encodeURIComponent(text.toWellFormed()));
    const bytes = new Uint8Array(single.length);
    for (let at = 0; at < single.length; at++) bytes[at] = single.charCodeAt(at);
    return bytes;
  }
};

// Character by character, with U+FFFD for each byte that fits nowhere.
function mended(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = [4, 3, 2, 1].find((length) => isCharacter(bytes.subarray(at, at + length), length));
    text += length ? decodeURIComponent(escape(String.fromCharCode.apply(null, bytes.subarray(at, at + length)))) : '\ufffd';
    at += length ?? 1;
  }
  return text;
}

function isCharacter(bytes, length) {
  if (bytes.length !== length) return false;
  try {
    return [...decodeURIComponent(escape(String.fromCharCode.apply(null, bytes)))].length === 1;
  } catch {
    return false;
  }
}

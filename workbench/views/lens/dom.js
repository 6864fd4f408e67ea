// Helpers for DOM nodes and numbers. Text is inserted as textContent, never as HTML.

const SVG = 'http://www.w3.org/2000/svg';

export function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function shape(tag, attributes = {}, text = '') {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

// Position of the pointer in an element, from 0 to 1 in x and y.
export function pointerIn(element, event) {
  const box = element.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
export const exists = value => typeof value === 'number' && Number.isFinite(value);

// Integers from 0 to count - 1.
export const range = count => Array.from({ length: count }, (_, i) => i);

// 0.0123 -> "0.0123", 24.128 -> "24.13", 0.00000132 -> "1.3e-6"
export function short(value) {
  if (!exists(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(4);
}

// Helpers for DOM nodes and numbers. Text is inserted as textContent, never as HTML.

const SVG = 'http://www.w3.org/2000/svg';

export function node(tag, { dataset = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

export function svgNode(tag, attributes = {}, text = '') {
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

// Mounts a component where no Gradio does it; returns a function that changes properties of the component.
export function mount(element, component, props, trigger) {
  const watchers = [];
  component(element, { trigger, props, watch: (name, callback) => watchers.push({ name, callback }) });
  return changes => {
    Object.assign(props, changes);
    watchers.filter(({ name }) => name in changes).forEach(({ callback }) => callback());
  };
}

// Follows the pointer from press to release: begin(event) returns what drag(event, begun, [dx, dy]) needs; click(event) where
// it did not move; hover(event) while nothing is pressed. Works with a mouse, a pen and a finger.
export function draggable(element, { begin, drag, click, hover }) {
  let start = null;
  element.addEventListener('pointerdown', event => {
    if (event.button) return;
    start = { at: [event.clientX, event.clientY], begun: begin(event), moved: false };
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener('pointermove', event => {
    if (!start) { hover?.(event); return; }
    const by = [event.clientX - start.at[0], event.clientY - start.at[1]];
    start.moved ||= Math.hypot(...by) > 3;
    if (start.moved) drag(event, start.begun, by);
  });
  element.addEventListener('pointerup', event => {
    if (start && !start.moved) click?.(event);
    start = null;
  });
  element.addEventListener('pointercancel', () => { start = null; });
}

export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
export const isFiniteNumber = value => typeof value === 'number' && Number.isFinite(value);

// URL of the app; behind a proxy it is not the root.
export const base = () => (globalThis.gradio_config?.root || document.baseURI).replace(/\/*$/, '/');

// Integers from 0 to count - 1.
export const range = count => Array.from({ length: count }, (_, i) => i);

// 0.0123 -> "0.0123", 24.128 -> "24.13", 0.00000132 -> "1.3e-6"
export function formatNumber(value) {
  if (!isFiniteNumber(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(4);
}

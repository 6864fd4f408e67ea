// Functions of all components; page.py links this script and that of a component into one scope.

import { lineChart, nearest } from '../lens/chart.js';
import { base, clamp, draggable, formatNumber, isFiniteNumber, node, pointerIn } from '../lens/dom.js';

const home = element.querySelector('.part');
const emptyNote = text => node('p', { className: 'lens-empty', textContent: text });
home.append(emptyNote('Loading …'));
const button = (text, act, properties = {}) => node('button', { type: 'button', textContent: text, onclick: act, ...properties });
const hint = (text, help) => node('abbr', { textContent: text, title: help });

// Calls update(value) with every value that Python sends, a plain copy of Gradio's reactive object.
function follow(update) {
  const take = () => update(JSON.parse(JSON.stringify(props.value || {})));
  watch('value', take);
  take();
}

const labeled = (text, input, help = '') => node('label', {}, help ? hint(text, help) : node('span', { textContent: text }), input);

function select(options, value, act) {
  const made = node('select', { onchange: () => act(made.value) });
  for (const [key, text] of options) made.append(node('option', { value: key, textContent: text, selected: key === value }));
  return made;
}

function table(heads, rows, className = '') {
  const top = node('tr', {}, ...heads.map(h => (h instanceof Node ? node('th', { scope: 'col' }, h) : node('th', { scope: 'col', textContent: h }))));
  return node('div', { className: 'scroll' }, node('table', { className }, node('thead', {}, top), node('tbody', {}, ...rows)));
}

const cells = values => values.map(v => (v instanceof Node ? node('td', {}, v) : node('td', { textContent: v ?? '–' })));

const filterBox = (id, placeholder, act) => (
  node('input', { type: 'search', id, placeholder, ariaLabel: placeholder, oninput: event => act(event.target.value.toLowerCase()) }));
const checkbox = (ariaLabel, checked, act) => node('input', { type: 'checkbox', ariaLabel, checked, onchange: event => act(event.target.checked) });

// At most two selected keys: a third one replaces the first.
const lastTwo = (selected, key, on) => [...selected.filter(k => k !== key), ...(on ? [key] : [])].slice(-2);

// A line of text that is hidden while it is empty; an alert is read out at once.
const alertLine = id => node('p', { className: 'problem', id, role: 'alert', hidden: true });
const setLine = (line, text) => Object.assign(line, { textContent: text || '', hidden: !text });

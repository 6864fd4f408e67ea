// Functions of all components; page.py links this script and that of a component into one scope.

import { lineChart, nearest } from '../lens/chart.js';
import { exists, node, shape, short } from '../lens/dom.js';

const home = element.querySelector('.part');
const emptyNote = text => node('p', { className: 'lens-empty', textContent: text });
const button = (text, act, properties = {}) => node('button', { type: 'button', textContent: text, onclick: act, ...properties });
const hint = (text, help) => node('abbr', { textContent: text, title: help });
const base = () => `${(window.gradio_config?.root || location.origin).replace(/\/+$/, '')}/`;
const plain = value => (value ? JSON.parse(JSON.stringify(value)) : {});

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
const minutes = s => {
  if (!exists(s)) return '–';
  const whole = Math.round(s), sixties = Math.round(s / 60); // rounded first: never 5 min 60 s
  return whole < 60 ? `${whole} s` : whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(sixties / 60)} h ${sixties % 60} min`;
};

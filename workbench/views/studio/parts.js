// What the parts have in common. chart.js comes before this text in the same scope, the part's own script after it.

const home = element.querySelector('.part');
const say = words => node('p', { className: 'lens-empty', textContent: words });
const button = (text, act, properties = {}) => node('button', { type: 'button', textContent: text, onclick: act, ...properties });
const hint = (text, words) => node('abbr', { textContent: text, title: words });
const base = () => `${(window.gradio_config?.root || location.origin).replace(/\/+$/, '')}/`;
const plain = value => (value ? JSON.parse(JSON.stringify(value)) : {});

function labelled(text, input, words = '') {
  const label = node('label', {}, words ? hint(text, words) : node('span', { textContent: text }), input);
  return label;
}

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

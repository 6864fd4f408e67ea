// Settings of a run. Python sends parts of { groups, fields, presets, values, preset, name, problem, note, estimate,
// measuring }; missing parts stay unchanged, and a status update never overwrites typed values.

let known = {}, inputs = {}, name = null, queue = null, lines = {};

const labelOf = path => path.replace(/_/g, ' ').replace(/\./g, ' · ');

function show(kind, value) {
  if (kind === 'texts') return (value || []).join('\n');
  if (kind === 'numbers') return (value || []).join(', ');
  return value ?? '';
}

function input(path, about) {
  const id = `setting-${path}`, kind = about.kind;
  let made;
  if (kind === 'flag') made = node('input', { type: 'checkbox' });
  else if (kind === 'choice') made = select(about.choices.map(c => [String(c), String(c)]), '', () => {});
  else if (kind === 'texts') made = node('textarea', { rows: 2, spellcheck: false });
  else if (kind === 'integer' || kind === 'number') {
    made = node('input', { type: 'number', step: kind === 'integer' ? 1 : 'any' });
    if (isFiniteNumber(about.minimum)) made.min = about.minimum;
  } else {
    made = node('input', { type: 'text', spellcheck: false, autocomplete: 'off' });
    if (about.suggestions.length) {
      const list = node('datalist', { id: `${id}-list` }, ...about.suggestions.map(s => node('option', { value: s })));
      made.setAttribute('list', list.id);
      home.append(list);
    }
  }
  made.id = id;
  made.addEventListener('input', () => { lines.preset.value = ''; made.closest('.setting').classList.remove('wrong'); });
  inputs[path] = { made, about };
  const label = node('label', { htmlFor: id, textContent: labelOf(path), title: path });
  const help = node('small', { textContent: about.help + (isFiniteNumber(about.minimum) && about.minimum > 0 ? ` At least ${about.minimum}.` : '') });
  return node('div', { className: `setting ${kind}` }, label, made, help);
}

function put(values) {
  for (const [path, { made, about }] of Object.entries(inputs)) {
    if (!(path in values)) continue;
    if (about.kind === 'flag') made.checked = !!values[path];
    else made.value = show(about.kind, values[path]);
    made.closest('.setting').classList.remove('wrong');
  }
}

function get() {
  const values = {};
  for (const [path, { made, about }] of Object.entries(inputs)) {
    const text = made.value;
    if (about.kind === 'flag') values[path] = made.checked;
    else if (about.kind === 'integer' || about.kind === 'number') values[path] = text.trim() === '' ? text : Number(text);
    else if (about.kind === 'texts') values[path] = text.split('\n').map(t => t.trim()).filter(Boolean);
    else if (about.kind === 'numbers') values[path] = text.split(/[,\s]+/).filter(Boolean).map(Number);
    else if (about.kind === 'choice') values[path] = typeof about.choices[0] === 'number' ? Number(text) : text;
    else values[path] = text.trim();
  }
  return { values, preset: lines.preset.value, name: name.value, queue: queue.checked };
}

function build() {
  home.replaceChildren();
  inputs = {};
  lines.preset = select([['', '(custom)'], ...Object.keys(known.presets).map(p => [p, p])], known.preset, preset => {
    if (preset) trigger('fill', { preset });
  });
  lines.preset.id = 'train-preset';
  lines.about = node('small', {});
  name = node('input', { type: 'text', id: 'train-name', placeholder: 'preset and time', autocomplete: 'off', maxLength: 64 });
  queue = node('input', { type: 'checkbox', id: 'train-queue-new' });
  home.append(node('div', { className: 'settings' },
    node('div', { className: 'setting' }, node('label', { htmlFor: 'train-preset', textContent: 'preset' }), lines.preset, lines.about),
    node('div', { className: 'setting' }, node('label', { htmlFor: 'train-name', textContent: 'run name' }), name,
      node('small', { textContent: 'Letters, digits, and - _ . Leave it empty for a generated name.' }))));
  for (const group of known.groups) {
    const body = node('div', { className: 'settings' }, ...group.fields.map(path => input(path, known.fields[path])));
    home.append(group.title ? node('details', {}, node('summary', { textContent: `${group.title} (${group.fields.length})` }), body) : body);
  }
  lines.problem = alertLine('train-problem');
  lines.note = node('p', { className: 'note', id: 'train-note', role: 'status' });
  lines.estimate = node('p', { className: 'note', id: 'train-estimate' });
  lines.measure = button('Estimate', () => (known.measuring ? trigger('cancel', {}) : trigger('estimate', get())), {
    id: 'train-measure', title: 'Measure a few steps, and estimate the time and memory of the run',
  });
  home.append(lines.problem, lines.note, lines.estimate, node('div', { className: 'acts' },
    button('Start', () => { lines.problem.textContent = ''; trigger('start', get()); }, { id: 'train-go', className: 'main' }),
    lines.measure,
    node('label', { title: 'Start when no other run of this folder is active' }, queue, node('span', { textContent: 'Queue' }))));
}

function draw() {
  lines.about.textContent = known.presets[lines.preset.value] || '';
  for (const key of ['problem', 'note', 'estimate']) setLine(lines[key], known[key]);
  lines.measure.textContent = known.measuring ? 'Cancel estimate' : 'Estimate';
  const path = (known.problem || '').split(':')[0].trim();
  for (const [one, { made }] of Object.entries(inputs)) {
    const wrong = one === path;
    made.closest('.setting').classList.toggle('wrong', wrong);
    made.toggleAttribute('aria-invalid', wrong);
    if (!wrong) continue;
    const folded = made.closest('details');
    if (folded) folded.open = true;
  }
}

follow(next => {
  known = { ...known, ...next };
  if (next.groups) build();
  if (!known.groups) return;
  if (next.values) { put(next.values); lines.preset.value = next.preset ?? ''; name.value = next.name ?? ''; }
  draw();
});

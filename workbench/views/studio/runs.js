// Table of all runs, and details of one or two. Python sends parts of { rows, empty, compared, lines }.
// The sliders change the weights of the displayed total only, nothing on disk.

let known = { rows: [], selected: [] }, weights = {}, filter = '';
const box = filterBox('runs-filter', 'Filter by name, state or network', text => { filter = text; rows(); });
const empty = emptyNote(''), detail = node('div', { className: 'detail', id: 'runs-detail' });
const DASH = ['', '5 4'];

const list = table([
  hint('compare', 'Select two runs to see them side by side'), 'run', 'state',
  hint('step', 'Optimizer steps done, of the steps planned'),
  hint('networks', 'Teacher → student'),
  hint('PSNR-Y', 'Mean peak signal-to-noise ratio of the student on the validation clip, luma only, at the newest snapshot; higher is better'),
  hint('time left', 'Estimate from the recent throughput'), '',
], [], 'runs');
home.replaceChildren(box, empty, list, detail);

function rows() {
  const shown = known.rows.filter(r => [r.name, r.title, r.networks].join(' ').toLowerCase().includes(filter));
  empty.hidden = shown.length > 0;
  empty.textContent = known.rows.length ? 'No run matches the filter.' : known.empty || '';
  list.hidden = !shown.length;
  list.querySelector('tbody').replaceChildren(...shown.map(row => {
    const tick = checkbox(`compare ${row.name}`, known.selected.includes(row.key), on => choose(row.key, on));
    const state = node('span', { className: `state ${row.state}`, textContent: row.title + (row.shipped ? ' · shipped' : ''), title: row.reason || '' });
    const link = node('a', { href: `${base()}run?run=${encodeURIComponent(row.name)}`, textContent: 'open' });
    const step = row.steps ? `${row.step.toLocaleString('en')} / ${row.steps.toLocaleString('en')}` : '';
    return node('tr', { dataset: { run: row.name } }, ...cells([tick, row.name, state, step, row.networks, row.score, row.left ?? '', link]));
  }));
}

function choose(key, on) {
  known.selected = lastTwo(known.selected, key, on);
  if (!known.selected.length) { known.compared = null; draw(); } else requestDetails();
  rows();
}

// If two responses arrive at once, one of them from the timer, Gradio delivers the last: repeat the request until it arrives.
let waiting = 0;
function requestDetails() {
  clearTimeout(waiting);
  trigger('choose', { keys: known.selected });
  waiting = setTimeout(() => {
    const shown = (known.compared || []).map(r => r.key).join();
    if (known.selected.length && shown !== known.selected.join()) requestDetails();
  }, 2000);
}

// -- details; a click on a curve opens its run on the page Run, at the snapshot nearest to that step

const urlOf = (run, step) => `${base()}run?run=${encodeURIComponent(run.name)}&step=${step}`;
const nearestSnapshot = (run, x) => (run.snapshots.length ? run.snapshots[nearest(run.snapshots, x)] : null);

// Options of all charts of these runs; the keys of their lines begin with the number of the run (see `atCommonSteps`).
function snapshotOptions(runs, series) {
  const of = key => runs[Number(key.split('.')[0])], some = runs.some(r => r.snapshots.length);
  return {
    marks: [...new Set(runs.flatMap(r => r.snapshots))].sort((a, b) => a - b),
    tip: (x, key) => {
      const run = of(key), step = nearestSnapshot(run, x), line = series.find(s => s.key === key);
      return `${run.name}, step ${Math.round(x)}: ${line ? line.label : ''}\n${step === null ? 'no snapshot' : `click: open step ${step}`}`;
    },
    onOpen: some ? (x, key, event) => {
      const run = of(key), step = nearestSnapshot(run, x);
      if (step === null) return;
      if (event.ctrlKey || event.metaKey) window.open(urlOf(run, step), '_blank'); else location.assign(urlOf(run, step));
    } : undefined,
  };
}

const MAX_LINKS = 12;

// Links for the keyboard: every snapshot, or a selection from the first to the last.
function snapshotLinks(runs) {
  return runs.filter(r => r.snapshots.length).map(run => {
    const all = run.snapshots, count = Math.min(MAX_LINKS, all.length);
    const some = count < 2 ? all : Array.from({ length: count }, (_, k) => all[Math.round(k * (all.length - 1) / (count - 1))]);
    return node('p', { className: 'opening' }, node('span', { textContent: `Open ${run.name} at step` }),
      ...some.map(step => node('a', { href: urlOf(run, step), textContent: step.toLocaleString('en') })));
  });
}

// Adds a chart; returns a function that draws it.
function addChart(host, runs) {
  const made = lineChart(host);
  return spec => {
    made.set({ xName: 'step', xText: x => String(Math.round(x)), height: 170, log: true, ...snapshotOptions(runs, spec.series), ...spec });
    made.cursor(spec.xs[spec.xs.length - 1] ?? null);
  };
}

// Interpolate values that are recorded only at some steps.
function interpolated(values) {
  const at = values.flatMap((v, i) => (isFiniteNumber(v) ? [i] : []));
  return values.map((v, i) => {
    const k = at.findIndex(j => j >= i);
    if (isFiniteNumber(v) || k <= 0) return v;
    const a = at[k - 1], b = at[k];
    return values[a] + (values[b] - values[a]) * (i - a) / (b - a);
  });
}

// Sample two runs at the union of their steps.
function atCommonSteps(runs, pick) {
  const xs = [...new Set(runs.flatMap(r => r.steps))].sort((a, b) => a - b);
  const on = (run, values) => {
    if (!run.steps.length) return xs.map(() => null);
    const first = run.steps[0], last = run.steps[run.steps.length - 1];
    return xs.map(x => (x < first || x > last ? null : values[nearest(run.steps, x)]));
  };
  return { xs, series: runs.flatMap((run, k) => pick(run).map(s => ({ ...s, values: on(run, s.values), dash: DASH[k], key: `${k}.${s.key}`,
    label: runs.length > 1 ? `${run.name}: ${s.label}` : s.label }))) };
}

const total = run => run.steps.map((_, i) => Object.entries(run.terms).reduce((sum, [name, values]) => (isFiniteNumber(values[i]) ? sum + weights[name] * values[i] : sum), 0));
const recent = values => { const there = values.slice(-Math.max(1, Math.ceil(values.length / 10))).filter(isFiniteNumber); return there.length ? there.reduce((a, b) => a + b, 0) / there.length : 0; };

function sliders(runs, redraw) {
  const names = [...new Set(runs.flatMap(r => Object.keys(r.terms)))];
  return node('div', { className: 'sliders' }, ...names.map(name => {
    const first = weights[name] || 0, out = node('output', { textContent: formatNumber(weights[name]) });
    const range = node('input', { type: 'range', min: -6, max: 2, step: 0.05, value: first > 0 ? Math.log10(first) : -6, dataset: { term: name } });
    range.oninput = () => { weights[name] = Number(range.value) <= -6 ? 0 : 10 ** Number(range.value); out.textContent = formatNumber(weights[name]); redraw(); };
    return labeled(name, node('span', { className: 'weight' }, range, out), `Weight of the term ${name} in the displayed total; the left end is 0`);
  }), button('As trained', () => { weights = { ...known.trained }; draw(); }, { id: 'runs-reset' }));
}

function shares(runs, colors) {
  return runs.map(run => {
    const parts = Object.entries(run.terms).map(([name, values]) => [name, Math.abs(weights[name] * recent(values))]);
    const all = parts.reduce((sum, [, v]) => sum + v, 0) || 1;
    const percent = v => `${(100 * v / all).toFixed(1)} %`, text = parts.map(([name, v]) => `${name} ${percent(v)}`).join(' · ');
    const bar = node('div', { className: 'shares' }, ...parts.map(([name, v]) => (
      node('i', { title: `${name}: ${percent(v)}`, style: `width: ${100 * v / all}%; background: ${colors[name]}` }))));
    return node('div', { className: 'share' }, node('b', { textContent: run.name }), bar, node('small', { textContent: text }));
  });
}

// -- two linked lenses below: a change of the frame in one is repeated in the other

function linked() {
  const lenses = [0, 1].map(k => document.querySelector(`#runs-lens-${k} .lens`)?.lens);
  if (!lenses.every(Boolean)) { if (home.isConnected) requestAnimationFrame(linked); return; }
  const at = [null, null], sent = [null, null], scenes = [null, null];   // sent: frame requested by the other one
  const send = (k, frame) => {
    const to = Math.min(frame, lenses[k].scene.frame_count - 1);
    if (to !== lenses[k].wanted) { sent[k] = to; lenses[k].player.seek(to); }
  };
  const copyFrame = k => {
    const { scene, frame, view } = lenses[k], other = lenses[1 - k];
    if (scene.id !== scenes[k]) {                   // a new scene starts at the frame of the other one
      scenes[k] = scene.id;
      if (other.scene && !view.playing) { at[k] = frame; send(k, other.wanted); return; }
    }
    if (frame === at[k]) return;
    at[k] = frame;
    if (frame === sent[k]) return;
    sent[k] = null;
    if (other.scene) send(1 - k, frame);
  };
  lenses.forEach(({ root }, k) => new MutationObserver(() => lenses[k].scene && copyFrame(k)).observe(root, { attributes: true, attributeFilter: ['data-frame'] }));
}

function draw() {
  detail.replaceChildren();
  const all = known.compared || [], runs = all.filter(r => !r.message);
  document.getElementById('runs-pair')?.toggleAttribute('data-two', all.length === 2);
  for (const broken of all.filter(r => r.message)) detail.append(emptyNote(`${broken.name}: ${broken.message}`));
  if (!runs.length) {
    if (!all.length && known.rows.length) detail.append(emptyNote('Select one run or two in the table to see their losses, weights and gradients here.'));
    return;
  }
  const colors = Object.assign({}, ...runs.map(r => r.colors)), one = runs.length === 1;
  const progress = table(['', ...runs.map(r => r.name)], runs[0].progress.map(([text, help], k) =>
    node('tr', {}, ...cells([help ? hint(text, help) : text, ...runs.map(r => r.progress[k][2] || '–')]))));
  const settings = one ? [] : [node('div', {}, node('h3', { textContent: 'Different settings' }), known.lines.length
    ? table(['setting', ...runs.map(r => r.name)], known.lines.map(line => node('tr', {}, ...cells(line))))
    : node('p', { textContent: 'None: both runs have the same settings.' }))];
  detail.append(node('div', { className: 'charts' }, node('div', {}, node('h3', { textContent: 'Progress' }), progress), ...settings));
  const key = one ? '' : ` · solid: ${runs[0].name}, dashed: ${runs[1].name}`;
  const longest = Math.max(...runs.map(r => r.steps.length)), smooth = longest > 24 ? Math.ceil(longest / 60) : 0;
  const charts = node('div', { className: 'charts' });
  detail.append(charts);
  const terms = atCommonSteps(runs, r => Object.entries(r.terms).map(([name, values]) => ({ key: name, label: name, color: colors[name], values })));
  addChart(charts, runs)({ title: 'Loss terms', note: `unweighted · lower is better · log scale · ▴ snapshots${key}`, smooth, ...terms });
  const drawTotal = addChart(charts, runs);
  const part = node('div', { id: 'runs-shares' });
  const redraw = () => {
    const made = atCommonSteps(runs, r => [{ key: 'total', label: 'total', color: 'var(--accent)', values: total(r) }]);
    const changed = Object.keys(weights).some(n => weights[n] !== known.trained[n]);
    drawTotal({ title: 'Total', note: `${changed ? 'with changed weights, no training' : 'with the weights of the last step'} · log scale${key}`, smooth, ...made });
    part.replaceChildren(...shares(runs, colors));
  };
  detail.append(...snapshotLinks(runs), node('h3', {}, hint('Weights of the terms', 'Terms are logged without their weights, so the total can be shown with other weights without a new training')),
    sliders(runs, redraw), node('p', { className: 'soft', textContent: 'Share of each term in the total, over the last tenth of the steps:' }), part);
  redraw();
  const has = (r, test) => Object.keys(r.measures).filter(n => test(n) && r.measures[n].some(isFiniteNumber));
  const palette = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7a68c4', '#a0522d'];
  const line = (names, clean) => r => names.filter(n => n in r.measures).map(n => ({ key: n, label: clean(n), values: interpolated(r.measures[n]),
    color: colors[clean(n)] || palette[names.indexOf(n) % palette.length] }));
  const norms = [...new Set(runs.flatMap(r => has(r, n => n === 'gradient_norm' || n.startsWith('gradient.'))))];
  const angles = [...new Set(runs.flatMap(r => has(r, n => n.startsWith('cosine.'))))];
  const more = node('div', { className: 'charts' });
  detail.append(more);
  if (norms.length) addChart(more, runs)({ title: 'Gradient norms', note: `of the total loss, and of single terms where recorded · log scale${key}`,
    ...atCommonSteps(runs, line(norms, n => n.replace('gradient.', '').replace('gradient_norm', 'total'))) });
  if (angles.length) addChart(more, runs)({ title: 'Agreement of the gradients', note: `cosine between the gradients of two terms: 1 same direction, −1 opposite${key}`, log: false,
    ...atCommonSteps(runs, line(angles, n => n.replace('cosine.', '').replace('.', ' / '))) });
  else more.append(node('p', { className: 'soft', textContent: 'No cosines between gradients are recorded; set gradient_stats_every above 0, with two terms or more.' }));
}

follow(next => {
  if (next.compared && next.compared.map(r => r.key).join() !== known.selected.join()) return;   // superseded by another selection
  if (next.compared) {
    known.trained = Object.assign({}, ...next.compared.map(r => Object.fromEntries(Object.keys(r.terms || {}).map(n => [n, (r.weights || {})[n] ?? 0]))));
    weights = { ...known.trained };
  }
  known = { ...known, ...next };
  known.selected = known.selected.filter(k => known.rows.some(r => r.key === k));
  rows();
  if (next.compared || !known.compared) draw();
});
linked();

// Table of all networks, measurements of one or two, and temporal share of the shipped ones.
// Python sends parts of { rows, size, measured, shares: { heads, rows: [{ name, role, learned, conditions, numbers }], absent, command }, problem }.

let known = { rows: [] }, selected = [], filter = '', order = ['name', 1];
const lines = {};
const big = n => (!isFiniteNumber(n) ? '–' : n >= 1e9 ? `${(n / 1e9).toPrecision(3)} G` : n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n >= 1e3 ? `${(n / 1e3).toPrecision(3)} k` : String(n));

const COLUMNS = [
  ['name', 'network', '', r => r.name],
  ['role', 'role', 'Role in the workbench: teacher, student, both, or a baseline for comparison', r => r.role],
  ['parameters', 'parameters', 'Number of trained values', r => r.parameters.toLocaleString('en')],
  ['frames', 'frames', 'Input frames of one output frame; all: the network is recurrent', r => (r.frames === null ? 'all' : String(r.frames))],
  ['macs', 'MACs', 'Multiply-accumulate operations of one more frame of a long clip, for the input size above', r => big(r.macs)],
  ['feature_channels', 'F^SR', 'Channels of the high-resolution features used by space-time distillation; –: none, only its output frames can be imitated', r => (r.feature_channels ? String(r.feature_channels) : '–')],
  ['year', 'year', '', r => String(r.year)],
  ['paper', 'paper', '', r => r.paper],
];
const NUMBERS = ['parameters', 'frames', 'macs', 'feature_channels', 'year'];

function build() {
  home.replaceChildren();
  const box = filterBox('networks-filter', 'Filter by name, role or paper', text => { filter = text; rows(); });
  lines.count = node('p', { className: 'soft', role: 'status' });
  lines.problem = alertLine('networks-problem');
  lines.act = button('Measure', () => trigger('measure', { names: selected }), { id: 'networks-measure', className: 'main', disabled: true });
  lines.which = node('span', { className: 'soft' });
  lines.measured = node('div', { id: 'networks-measured' });
  lines.body = node('tbody');
  const heads = COLUMNS.map(([key, text, help]) => node('th', { scope: 'col', className: NUMBERS.includes(key) ? 'number' : '' },
    button(text, () => { order = [key, order[0] === key ? -order[1] : 1]; rows(); }, { className: 'sort', title: `${help ? `${help}. ` : ''}Click to sort` })));
  home.append(node('div', { className: 'acts plainly' }, lines.act, lines.which), lines.problem, lines.measured, box, lines.count,
    node('div', { className: 'scroll' }, node('table', { className: 'wide networks' }, node('thead', {}, node('tr', {}, node('th', { scope: 'col' }), ...heads)), lines.body)));
  lines.shares = node('section', { id: 'networks-shares' });
  home.append(lines.shares);
}

function shares() {
  const { heads, rows: shipped, absent, command } = known.shares;
  const signed = v => `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(3)}`;
  lines.shares.replaceChildren(
    node('h3', { textContent: 'Shipped networks' }),
    node('p', { className: 'soft', textContent: 'Method names, training targets, and temporal share: gain in PSNR-Y over bicubic, in dB, of the shipped networks with different neighboring frames. A network that gains as much from copies of the center frame as from its true neighbors uses no temporal information.' }),
    table(['network', 'method', 'learned from', ...heads, 'measured on'], shipped.map(row => node('tr', {}, ...cells([row.name, row.role, row.learned]),
      ...(row.numbers ? [...row.numbers.map(v => node('td', { className: 'number', textContent: signed(v) })), ...cells([row.conditions])]
        : [node('td', { colSpan: heads.length + 1, className: 'soft', textContent: absent })])))),
    node('p', { className: 'soft', hidden: shipped.every(row => row.numbers), textContent: `${command} measures it.` }));
}

function rows() {
  const [key, way] = order, all = known.rows.filter(r => [r.name, r.role, r.paper, r.what].join(' ').toLowerCase().includes(filter));
  const value = r => (r[key] === null || r[key] === undefined ? Infinity : r[key]);
  all.sort((a, b) => (value(a) < value(b) ? -way : value(a) > value(b) ? way : 0));
  lines.body.replaceChildren(...all.map(row => {
    const tick = checkbox(`measure ${row.name}`, selected.includes(row.name), on => { selected = lastTwo(selected, row.name, on); rows(); });
    return node('tr', { title: row.what, dataset: { network: row.name } }, node('td', {}, tick), ...COLUMNS.map(([name, label, , show]) => (
      node('td', { textContent: show(row), className: NUMBERS.includes(name) ? `number ${name}` : name, dataset: { label } }))));   // label: on a narrow screen
  }));
  if (!all.length) lines.body.append(node('tr', {}, node('td', { colSpan: COLUMNS.length + 1, textContent: 'No network matches the filter.' })));
  const isBusy = known.measured && !known.measured.finished;
  lines.act.disabled = !selected.length || isBusy;
  lines.act.textContent = selected.length ? `Measure ${selected.join(' and ')}` : 'Measure';
  lines.which.textContent = selected.length ? `on this machine, for an input of ${known.size}; large networks take minutes` : 'Select one network or two in the table.';
}

function measured() {
  const job = known.measured;
  lines.measured.replaceChildren();
  if (!job) return;
  if (!job.finished) {
    lines.measured.append(node('p', {}, node('span', { className: 'state running', textContent: job.message || job.state }), ' ', button('Cancel', () => trigger('cancel', {}))));
    return;
  }
  if (job.state !== 'done') { lines.measured.append(node('p', { className: 'problem', textContent: job.message })); return; }
  const [a, b] = job.rows, times = (key, r) => (b && a[key] && b[key] ? ` (${formatNumber(r[key] / Math.min(a[key], b[key]))}×)` : '');
  lines.measured.append(table(['', ...job.rows.map(r => r.name)], [
    ['Parameters', 'parameters', v => v.toLocaleString('en')], ['MACs per frame', 'macs', big],
    ['Time per frame', 'seconds_per_frame', v => `${formatNumber(1000 * v)} ms`], ['Peak memory', 'peak_bytes', v => `${(v / 2 ** 20).toFixed(0)} MiB`],
  ].map(([text, key, show]) => node('tr', {}, ...cells([text, ...job.rows.map(r => (isFiniteNumber(r[key]) ? show(r[key]) + times(key, r) : '–'))])))),
    node('p', { className: 'soft', textContent: job.conditions }));
}

build();
follow(next => {
  known = { ...known, ...next };
  lines.count.textContent = `${known.rows.length} networks; MACs for an input of ${known.size} pixels`;
  setLine(lines.problem, known.problem);
  rows();
  measured();
  shares();
});

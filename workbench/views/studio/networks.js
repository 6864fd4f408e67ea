// All networks in a table, two of them measured, and the temporal share of the shipped ones.
// Python sends parts of { rows, size, measured, shares: { heads, rows: [{ name, conditions, numbers }], absent, command }, problem }.

let known = { rows: [] }, chosen = [], filter = '', order = ['name', 1], start = true;
const lines = {};
const big = n => (!exists(n) ? '–' : n >= 1e9 ? `${(n / 1e9).toPrecision(3)} G` : n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n >= 1e3 ? `${(n / 1e3).toPrecision(3)} k` : String(n));

const COLUMNS = [
  ['name', 'network', '', r => r.name],
  ['role', 'role', 'What it is for here: teacher, student, both, or a baseline to compare with', r => r.role],
  ['parameters', 'parameters', 'Numbers that are learnt', r => r.parameters.toLocaleString('en')],
  ['frames', 'frames', 'Neighbouring frames that one output frame is made of; all: it carries a state along the clip', r => (r.frames === null ? 'all' : String(r.frames))],
  ['macs', 'MACs', 'Products of one more frame of a long clip, for the input named above', r => big(r.macs)],
  ['feature_channels', 'F^SR', 'Channels of the high-resolution features that space-time distillation reads; –: it has none, only its pictures can be imitated', r => (r.feature_channels ? String(r.feature_channels) : '–')],
  ['year', 'year', '', r => String(r.year)],
  ['paper', 'paper', '', r => r.paper],
];
const NUMBERS = ['parameters', 'frames', 'macs', 'feature_channels', 'year'];

function build() {
  start = false;
  home.replaceChildren();
  const box = node('input', { type: 'search', id: 'networks-filter', placeholder: 'Filter by name, role or paper', oninput: () => { filter = box.value.toLowerCase(); rows(); } });
  box.setAttribute('aria-label', box.placeholder);
  lines.said = node('p', { className: 'soft' });
  lines.said.setAttribute('role', 'status');
  lines.problem = node('p', { className: 'problem', hidden: true });
  lines.problem.setAttribute('role', 'alert');
  lines.act = button('Measure', () => trigger('measure', { names: chosen }), { id: 'networks-measure', className: 'main', disabled: true });
  lines.which = node('span', { className: 'soft' });
  lines.measured = node('div', { id: 'networks-measured' });
  lines.body = node('tbody');
  const heads = COLUMNS.map(([key, text, words]) => node('th', { scope: 'col', className: NUMBERS.includes(key) ? 'number' : '' },
    button(text, () => { order = [key, order[0] === key ? -order[1] : 1]; rows(); }, { className: 'sort', title: `${words ? `${words}. ` : ''}Click: sort` })));
  home.append(node('div', { className: 'acts plainly' }, lines.act, lines.which), lines.problem, lines.measured, box, lines.said,
    node('div', { className: 'scroll' }, node('table', { className: 'wide networks' }, node('thead', {}, node('tr', {}, node('th', { scope: 'col' }), ...heads)), lines.body)));
  lines.shares = node('section', { id: 'networks-shares' });
  home.append(lines.shares);
}

function shares() {
  const { heads, rows: shipped, absent, command } = known.shares;
  const signed = v => `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(3)}`;
  lines.shares.replaceChildren(
    node('h3', { textContent: 'Temporal share' }),
    node('p', { className: 'soft', textContent: 'PSNR-Y gain over bicubic in dB of the shipped networks, with the same weights and these neighbor frames. Where copies of the scored frame give as much as the true neighbors, a network works on single images.' }),
    table(['network', ...heads, 'measured on'], shipped.map(row => node('tr', {}, ...cells([row.name]),
      ...(row.numbers ? [...row.numbers.map(v => node('td', { className: 'number', textContent: signed(v) })), ...cells([row.conditions])]
        : [node('td', { colSpan: heads.length + 1, className: 'soft', textContent: absent })])))),
    node('p', { className: 'soft', hidden: shipped.every(row => row.numbers), textContent: `${command} measures it.` }));
}

function rows() {
  const [key, way] = order, all = known.rows.filter(r => [r.name, r.role, r.paper, r.what].join(' ').toLowerCase().includes(filter));
  const value = r => (r[key] === null || r[key] === undefined ? Infinity : r[key]);
  all.sort((a, b) => (value(a) < value(b) ? -way : value(a) > value(b) ? way : 0));
  lines.body.replaceChildren(...all.map(row => {
    const tick = node('input', { type: 'checkbox', checked: chosen.includes(row.name), onchange: () => {
      chosen = chosen.filter(n => n !== row.name);
      if (tick.checked) chosen = [...chosen.slice(-1), row.name];
      rows();
    } });
    tick.setAttribute('aria-label', `measure ${row.name}`);
    const line = node('tr', { title: row.what }, node('td', {}, tick), ...COLUMNS.map(([name, text, , show]) => {
      const cell = node('td', { textContent: show(row), className: NUMBERS.includes(name) ? `number ${name}` : name });
      cell.dataset.label = text;                    // where there is no room for a table, a card says it
      return cell;
    }));
    line.dataset.network = row.name;
    return line;
  }));
  if (!all.length) lines.body.append(node('tr', {}, node('td', { colSpan: COLUMNS.length + 1, textContent: 'No network matches the filter.' })));
  const working = known.measured && !known.measured.over;
  lines.act.disabled = !chosen.length || working;
  lines.act.textContent = chosen.length ? `Measure ${chosen.join(' and ')}` : 'Measure';
  lines.which.textContent = chosen.length ? `on this machine, input ${known.size}; larger networks take minutes` : 'Tick one network or two in the table.';
}

function measured() {
  const seen = known.measured;
  lines.measured.replaceChildren();
  if (!seen) return;
  if (!seen.over) {
    lines.measured.append(node('p', {}, node('span', { className: 'state running', textContent: seen.said || seen.state }), ' ', button('Cancel', () => trigger('cancel', {}))));
    return;
  }
  if (seen.state !== 'done') { lines.measured.append(node('p', { className: 'problem', textContent: seen.said })); return; }
  const [a, b] = seen.rows, times = (key, r) => (b && a[key] && b[key] ? ` (${short(r[key] / Math.min(a[key], b[key]))} times)` : '');
  lines.measured.append(table(['', ...seen.rows.map(r => r.name)], [
    ['Parameters', 'parameters', v => v.toLocaleString('en')], ['MACs a frame', 'macs', big],
    ['Time a frame', 'seconds_per_frame', v => `${short(1000 * v)} ms`], ['Memory', 'peak_bytes', v => `${(v / 2 ** 20).toFixed(0)} MiB`],
  ].map(([text, key, show]) => node('tr', {}, ...cells([text, ...seen.rows.map(r => (exists(r[key]) ? show(r[key]) + times(key, r) : '–'))])))),
    node('p', { className: 'soft', textContent: seen.conditions }));
}

function take() {
  const next = plain(props.value);
  known = { ...known, ...next };
  if (start) build();
  lines.said.textContent = `${known.rows.length} networks; for an input of ${known.size} pixels`;
  lines.problem.textContent = known.problem || '';
  lines.problem.hidden = !known.problem;
  rows();
  measured();
  shares();
}

watch('value', take);
take();

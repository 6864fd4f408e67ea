// How a run stands, and which snapshot is looked at. chart.js comes before this text in the same scope.
// props.value = { run, state, title, words, reason, share, steps: [..], terms: {name: [..]}, colours: {name: ..}, snapshots: [step], step, follow }

const root = element.querySelector('.progress');
const part = name => root.querySelector(`[data-part="${name}"]`);
const chart = lineChart(part('chart'));
let value = null, chosen = null;                    // chosen: what the person asked for, until Python has caught up

const snapshots = () => value?.snapshots || [];
const current = () => chosen ?? value?.step ?? null;

function draw() {
  part('body').hidden = !value?.run;
  part('empty').hidden = !!value?.run;
  part('empty').textContent = value?.message || 'No run yet.';
  if (!value?.run) return;
  root.dataset.state = value.state;
  for (const name of ['words', 'reason']) part(name).textContent = value[name] || '';
  if (part('state').textContent !== value.title) part('state').textContent = value.title;
  part('reason').hidden = !value.reason;
  const percent = Math.round(1000 * Math.max(0, Math.min(1, value.share || 0))) / 10;
  part('bar').firstElementChild.style.width = `${percent}%`;
  part('bar').setAttribute('aria-valuenow', percent);
  part('chart').hidden = !value.steps.length;
  chart.set({
    title: 'Loss terms', note: 'unweighted, as logged · lower is better · log scale · click: nearest snapshot (▴)', height: 160,
    xs: value.steps, xName: 'step', xText: x => String(Math.round(x)), log: true, drag: false,
    smooth: value.steps.length > 24 ? Math.ceil(value.steps.length / 60) : 0, marks: snapshots(),
    series: Object.entries(value.terms).map(([name, values]) => ({ key: name, label: name, colour: value.colours[name], values })),
    onPick: x => { if (snapshots().length) choose(nearest(snapshots(), x)); },
  });
  stepper();
}

function stepper() {
  const at = snapshots().indexOf(current()), count = snapshots().length;
  part('steps').hidden = !count;
  part('slider').max = Math.max(0, count - 1);
  part('slider').value = Math.max(0, at);
  part('slider').setAttribute('aria-valuetext', `step ${current()}`);
  part('which').textContent = at < 0 ? '' : `step ${current()} (snapshot ${at + 1} of ${count})`;
  part('back').disabled = at <= 0;
  part('next').disabled = at < 0 || at >= count - 1;
  part('follow').checked = !!value.follow;
  chart.cursor(current());
}

let telling = 0;
function tell(now) {
  clearTimeout(telling);
  telling = setTimeout(() => trigger('select', { step: current(), follow: value.follow }), now ? 0 : 120);
}

function choose(index) {
  chosen = snapshots()[Math.max(0, Math.min(snapshots().length - 1, index))];
  value.follow = index >= snapshots().length - 1 && value.follow;   // to look back is to stop following
  stepper();
  tell();
}

part('back').onclick = () => choose(snapshots().indexOf(current()) - 1);
part('next').onclick = () => choose(snapshots().indexOf(current()) + 1);
part('slider').oninput = event => choose(Number(event.target.value));
part('follow').onchange = event => {
  value.follow = event.target.checked;
  if (value.follow) chosen = snapshots()[snapshots().length - 1] ?? null;
  stepper();
  tell(true);
};

function take() {
  const next = props.value && JSON.parse(JSON.stringify(props.value));
  // A report that was on its way when the person chose must not undo the choice.
  if (next?.run === value?.run && chosen !== null && next.step !== chosen) next.follow = value.follow;
  else chosen = null;
  value = next;
  draw();
}

watch('value', take);
take();
root.progress = element.progress = { get state() { return { ...value, step: current() }; }, choose };

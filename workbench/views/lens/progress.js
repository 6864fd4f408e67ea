// Progress of a run: state, loss terms over steps, and the visible snapshot. props.value is { run, state, title, summary, failure_reason,
// fraction_done, steps: [step], terms: { name: [value] }, colors: { name: color }, snapshots: [step], step, follow } of progress.py.

import { lineChart, nearest } from './chart.js';
import { clamp } from './dom.js';

export function mountProgress(element, { trigger, props, watch }) {
  const root = element.querySelector('.progress');
  const part = name => root.querySelector(`[data-part="${name}"]`);
  const chart = lineChart(part('chart'));
  let value = null, chosen = null;                  // chosen: the step that was requested, until Python has answered

  const snapshots = () => value?.snapshots || [];
  const current = () => chosen ?? value?.step ?? null;

  function draw() {
    part('body').hidden = !value?.run;
    part('empty').hidden = !!value?.run;
    part('empty').textContent = value?.message || 'No run yet.';
    if (!value?.run) return;
    part('state').className = `state ${value.state}`;
    for (const name of ['summary', 'failure_reason']) part(name).textContent = value[name] || '';
    if (part('state').textContent !== value.title) part('state').textContent = value.title;
    part('failure_reason').hidden = !value.failure_reason;
    const percent = Math.round(1000 * clamp(value.fraction_done || 0, 0, 1)) / 10;
    part('bar').firstElementChild.style.width = `${percent}%`;
    part('bar').setAttribute('aria-valuenow', percent);
    part('chart').hidden = !value.steps.length;
    chart.set({
      title: 'Loss terms', note: 'unweighted, as logged · lower is better · log scale · click: nearest snapshot (▴)', height: 160,
      xs: value.steps, xName: 'step', xText: x => String(Math.round(x)), log: true, drag: false,
      smooth: value.steps.length > 24 ? Math.ceil(value.steps.length / 60) : 0, marks: snapshots(),
      series: Object.entries(value.terms).map(([name, values]) => ({ key: name, label: name, color: value.colors[name], values })),
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

  let sending = 0;
  function send(now) {
    clearTimeout(sending);
    sending = setTimeout(() => trigger('select', { step: current(), follow: value.follow }), now ? 0 : 120);
  }

  function choose(index) {
    chosen = snapshots()[clamp(index, 0, snapshots().length - 1)];
    value.follow = index >= snapshots().length - 1 && value.follow;   // an earlier snapshot ends following
    stepper();
    send();
  }

  part('back').onclick = () => choose(snapshots().indexOf(current()) - 1);
  part('next').onclick = () => choose(snapshots().indexOf(current()) + 1);
  part('slider').oninput = event => choose(Number(event.target.value));
  part('follow').onchange = event => {
    value.follow = event.target.checked;
    if (value.follow) chosen = snapshots()[snapshots().length - 1] ?? null;
    stepper();
    send(true);
  };

  function update() {
    const next = props.value && JSON.parse(JSON.stringify(props.value));
    // A report that was sent before the choice must not undo it.
    if (next?.run === value?.run && chosen !== null && next.step !== chosen) next.follow = value.follow;
    else chosen = null;
    value = next;
    draw();
  }

  watch('value', update);
  update();
}

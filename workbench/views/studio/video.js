// A person's video: upload, a region and some frames of it, the work in line, the results.
// Python sends parts of { limits, methods, clip, jobs, results, line, problem, message }.

let known = {}, region = null, frames = [0, 1], truth = true, chosen = null, busy = null, drawn = '';
const lines = {};

function build() {
  home.replaceChildren();
  const file = node('input', { type: 'file', id: 'video-file', accept: '.mp4,.mov,.mkv,.webm,.avi,video/*', onchange: () => send(file.files[0]) });
  lines.drop = node('label', { className: 'drop', htmlFor: 'video-file' },
    node('b', { textContent: 'Choose a video, or drop it here' }),
    node('small', { textContent: `MP4, MOV, MKV, WebM or AVI, up to ${Math.round(known.limits.bytes / 1e6)} MB and ${known.limits.seconds} seconds` }), file);
  lines.drop.ondragover = event => { event.preventDefault(); lines.drop.classList.add('over'); };
  lines.drop.ondragleave = () => lines.drop.classList.remove('over');
  lines.drop.ondrop = event => { event.preventDefault(); lines.drop.classList.remove('over'); send(event.dataTransfer.files[0]); };
  lines.sending = node('progress', { max: 1, value: 0, hidden: true });
  lines.problem = node('p', { className: 'problem', id: 'video-problem', hidden: true });
  lines.problem.setAttribute('role', 'alert');
  lines.choose = node('div', { className: 'choose', id: 'video-choose', hidden: true });
  lines.work = node('div', { id: 'video-jobs' });
  lines.results = node('div', { id: 'video-results' });
  home.append(lines.drop, lines.sending, lines.problem, lines.choose, lines.work, lines.results);
}

function problem(words) {
  lines.problem.textContent = words || '';
  lines.problem.hidden = !words;
}

function send(file) {
  if (!file || busy) return;
  problem('');
  if (file.size > known.limits.bytes) { problem(`${file.name}: ${Math.round(file.size / 1e6)} MB; up to ${Math.round(known.limits.bytes / 1e6)} MB are taken`); return; }
  busy = new XMLHttpRequest();
  lines.sending.hidden = false;
  busy.upload.onprogress = event => { lines.sending.value = event.total ? event.loaded / event.total : 0; };
  busy.onloadend = () => {
    let told = {};
    try { told = JSON.parse(busy.responseText); } catch { told = { message: 'The upload broke off; try again.' }; }
    busy = null;
    lines.sending.hidden = true;
    home.querySelector('#video-file').value = '';
    if (told.clip) { drawn = ''; trigger('open', { clip: told.clip, frame: 0 }); } else problem(told.message || 'The upload was refused.');
  };
  busy.open('POST', `${base()}clips`);
  busy.setRequestHeader('Content-Type', 'application/octet-stream');
  busy.setRequestHeader('X-Name', encodeURIComponent(file.name));
  busy.send(file);
}

// -- which part

const most = () => known.limits.pixels / (truth ? 1 : known.limits.scale ** 2);
const least = () => known.limits.side * (truth ? known.limits.scale : 1);

function fit(next) {
  const { width: W, height: H } = known.clip, snap = truth ? known.limits.scale : 1;
  let [top, left, height, width] = next;
  width = Math.min(Math.max(width, least()), W);
  height = Math.min(Math.max(height, least()), H);
  if (width * height > most()) {
    const share = Math.sqrt(most() / (width * height));
    width = Math.floor(width * share);
    height = Math.floor(height * share);
  }
  width -= width % snap;
  height -= height % snap;
  left = Math.min(Math.max(0, Math.round(left)), W - width);
  top = Math.min(Math.max(0, Math.round(top)), H - height);
  region = [top, left, Math.round(height), Math.round(width)];
}

function middle() {
  const { width, height } = known.clip, wanted = truth ? 1e6 : 160 * 90;
  const share = Math.min(1, Math.sqrt(Math.min(most(), wanted) / (width * height)));
  fit([height * (1 - share) / 2, width * (1 - share) / 2, Math.floor(height * share), Math.floor(width * share)]);
}

function choose() {
  const clip = known.clip, chooser = lines.choose;
  chooser.hidden = !clip;
  if (!clip) return;
  if (drawn === clip.key) { lines.picture.src = clip.picture; return; }
  drawn = clip.key;
  truth = clip.width * clip.height * known.limits.scale ** 2 > known.limits.pixels;   // what is small enough to be enlarged whole is the input
  frames = [0, Math.min(clip.frames, Math.min(known.limits.frames, 24))];
  middle();
  lines.picture = node('img', { src: clip.picture, alt: 'A frame of your video', draggable: false });
  lines.frame = node('div', { className: 'frame' });
  lines.still = node('div', { className: 'still' }, lines.picture, lines.frame);
  drag(lines.still);
  const number = (text, k, words) => {
    const made = node('input', { type: 'number', min: 0, step: 1 });
    made.onchange = () => { const next = [...region]; next[k] = Math.round(Number(made.value)) || 0; fit(next); place(); };
    lines[`region${k}`] = made;
    return labelled(text, made, words);
  };
  const first = node('input', { type: 'range', min: 0, max: Math.max(0, clip.frames - 1), value: 0, id: 'video-first' });
  const length = node('input', { type: 'range', min: 1, max: Math.min(known.limits.frames, clip.frames), value: frames[1], id: 'video-length' });
  let asking = 0;
  const span = () => {
    const from = Math.min(Number(first.value), clip.frames - 1), count = Math.min(Number(length.value), clip.frames - from);
    frames = [from, from + count];
    place();
  };
  first.oninput = () => { span(); clearTimeout(asking); asking = setTimeout(() => trigger('open', { clip: clip.key, frame: frames[0] }), 250); };
  length.oninput = span;
  const mode = (value, text, words) => {
    const made = node('input', { type: 'radio', name: 'video-mode', checked: truth === value, onchange: () => { truth = value; middle(); place(); } });
    return node('label', { className: 'mode' }, made, node('span', {}, node('b', { textContent: text }), node('small', { textContent: words })));
  };
  chosen = chosen || new Set(['bicubic', 'plain', 'distilled', 'teacher'].filter(m => m in known.methods));
  const ticks = node('div', { className: 'ticks' }, ...Object.entries(known.methods).map(([key, text]) => {
    const made = node('input', { type: 'checkbox', checked: chosen.has(key), onchange: () => (made.checked ? chosen.add(key) : chosen.delete(key)) });
    made.dataset.method = key;
    return node('label', {}, made, node('span', { textContent: text }));
  }));
  lines.sum = node('p', { className: 'soft', id: 'video-sum' });
  chooser.replaceChildren(
    node('h3', { textContent: clip.title }),
    node('p', { className: 'soft', textContent: [`${clip.width}x${clip.height}`, `${clip.frames} frames`, `${clip.fps.toFixed(2)} a second`, clip.codec, ...clip.notes].join(' · ') }),
    node('div', { className: 'chooser' }, lines.still, node('div', { className: 'wishes' },
      mode(true, 'This is high resolution', 'It is shrunk four times, enlarged again, and scored against the original.'),
      mode(false, 'This is the low-resolution input', 'It is enlarged four times as it is; there is nothing to score against.'),
      node('div', { className: 'numbers' }, number('left', 1, 'First column of the region; or drag on the picture'), number('top', 0, 'First row of the region'), number('width', 3), number('height', 2)),
      labelled('from frame', first, 'Where the part begins'), labelled('frames', length, 'How many frames are enlarged'),
      ticks, lines.sum,
      button('Enlarge', () => { problem(''); trigger('ask', { clip: clip.key, frames, region, truth, methods: [...chosen] }); }, { id: 'video-go', className: 'main' }))));
  place();
}

function place() {
  const { width: W, height: H, fps } = known.clip, [top, left, height, width] = region, scale = known.limits.scale;
  lines.frame.style.cssText = `left:${100 * left / W}%;top:${100 * top / H}%;width:${100 * width / W}%;height:${100 * height / H}%`;
  region.forEach((v, k) => { lines[`region${k}`].value = v; });
  const seconds = k => (k / fps).toFixed(2);
  const becomes = truth ? `${width / scale}x${height / scale}, and ${width}x${height} again` : `${width * scale}x${height * scale}`;
  lines.sum.textContent = `Frames ${frames[0] + 1} to ${frames[1]} (${seconds(frames[0])} to ${seconds(frames[1])} s), ${width}x${height} becomes ${becomes}.`;
}

function drag(still) {
  let from = null;
  const at = event => {
    const box = still.getBoundingClientRect(), clip = known.clip;
    return [Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * clip.width, Math.min(1, Math.max(0, (event.clientY - box.top) / box.height)) * clip.height];
  };
  still.onpointerdown = event => { from = at(event); still.setPointerCapture(event.pointerId); event.preventDefault(); };
  still.onpointermove = event => {
    if (!from) return;
    const [x, y] = at(event), width = Math.abs(x - from[0]), height = Math.abs(y - from[1]);
    if (width < 4 || height < 4) return;
    fit([Math.min(y, from[1]), Math.min(x, from[0]), Math.floor(height), Math.floor(width)]);
    place();
  };
  still.onpointerup = () => { from = null; };
}

// -- work and results

function work() {
  const jobs = known.jobs || [], other = (known.line || []).filter(l => !jobs.some(j => j.title === l.title && !j.over));
  lines.work.replaceChildren();
  if (!jobs.length) return;
  lines.work.append(node('h3', {}, hint('In line', 'One job at a time computes on this machine; the others wait')));
  for (const one of other) lines.work.append(node('p', { className: 'soft', textContent: `At work for another page: ${one.title}` }));
  lines.work.append(table(['video', 'state', ''], jobs.map(job => node('tr', {}, ...cells([
    job.title, node('span', { className: `state ${{ working: 'running', waiting: 'queued', failed: 'failed' }[job.state] || ''}`, textContent: [job.state, job.said].filter((w, k, all) => w && all.indexOf(w) === k).join(': ') }),
    job.over ? '' : button('Cancel', () => trigger('cancel', { job: job.key })),
  ])))));
}

function results() {
  const all = known.results || [];
  lines.results.replaceChildren(node('h3', { textContent: 'Results' }));
  if (!all.length) {
    lines.results.append(say('Nothing yet: choose a video above, then a part of it, then Enlarge.'));
    return;
  }
  lines.results.append(table(['video', 'what', 'look', 'take home', ''], all.map(one => {
    const link = (what, text, words) => node('a', { href: `${base()}results/${one.name}/${what}`, textContent: text, title: words, download: '' });
    const films = node('span', { className: 'takes' }, ...one.methods.map(m => link(`${m.key}.mp4`, m.label, 'MP4: lossy, for looking and sharing, not for measuring')),
      link('frames.zip', 'frames (zip)', 'All frames of all methods, lossless WebP'), ...(one.scored ? [link('scores.json', 'scores (json)', 'Every score of every frame')] : []));
    const away = button('Delete', () => { if (away.dataset.sure) trigger('delete', { scene: one.name }); else { away.dataset.sure = '1'; away.textContent = 'Delete for good?'; } }, { className: 'danger' });
    const keep = one.kept ? node('span', { className: 'soft', textContent: 'Kept', title: 'It stays when the studio ends' })
      : known.keeps ? button('Keep', () => trigger('keep', { scene: one.name }), { title: 'It stays when the studio ends: on the page Compare, until you delete it' }) : '';
    const row = node('tr', {}, ...cells([one.title, `${one.frames} frame${one.frames === 1 ? '' : 's'} of ${one.size}, ${one.scored ? 'scored' : 'no scores'}`,
      node('a', { href: `${base()}?scene=${encodeURIComponent(one.name)}`, textContent: 'Compare' }), films, node('span', { className: 'takes' }, keep, away)]));
    row.dataset.scene = one.name;
    return row;
  }), 'cards'));
}

function take() {
  const next = plain(props.value);
  if (next.message) { home.replaceChildren(say(next.message)); return; }
  known = { ...known, ...next };
  if (next.limits) build();
  if (!known.limits) return;
  if ('problem' in next) problem(next.problem);
  if (next.clip) choose();
  if (next.jobs) work();
  if (next.results) results();
}

watch('value', take);
take();

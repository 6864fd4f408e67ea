// Export: the visible frames as PNG, with names, scores and provenance, and the clip as WebM.

import { formatNumber, node } from './dom.js';

const PAPER = '#ffffff', INK = '#111111', PALE = '#555555';
const FONT = 'system-ui, sans-serif';
const GAP = 8, LINE = 18, BASELINE = 14;            // in pixels; BASELINE: distance of a caption from its image
const MIN_WIDTH = 360, PATCH_WIDTH = 112;

export function createFigure(lens) {
  const { part, view, viewport } = lens;

  // The visible part of the frames, and its whole-number magnification in the figure.
  function cropAndScale() {
    const [left, top] = view.pan, { width, height } = lens.scene, [w, h] = viewport.visible.map(Math.ceil);
    const crop = { left, top, width: Math.min(width - left, w), height: Math.min(height - top, h) };
    return { ...crop, scale: view.zoom === 'fit' ? Math.max(1, Math.floor(480 / crop.width)) : view.zoom };
  }

  function footer() {                               // two lines
    const { scene } = lens, compared = view.layout === 'difference', curve = compared ? null : lens.score(), kind = compared ? null : lens.overlay();
    const { left, top, width, height } = cropAndScale(), cut = width < scene.width || height < scene.height;
    return [
      [scene.title, `frame ${lens.frame + 1} of ${scene.frame_count}`,
        cut ? `columns ${left} to ${left + width - 1}, rows ${top} to ${top + height - 1}` : '', curve ? `${curve.label}${curve.unit ? ` in ${curve.unit}` : ''}` : ''],
      [scene.link?.run ? `run ${scene.link.run}${lens.controls.steps() ? `, step ${lens.controls.steps().at}` : ''}` : `scene ${scene.id}`,
        kind ? `map: ${kind.label}, ${formatNumber(kind.vmin)} to ${formatNumber(kind.vmax)}` : ''],
    ].map(texts => texts.filter(Boolean).join(' · '));
  }

  // Positions in the figure: the frames in a grid, below them the patches of a pinned loupe, and two lines of text.
  function layout() {
    const { tiles } = viewport, { width, height, scale } = cropAndScale(), patches = view.loupe && view.pinned ? lens.loupe.patches : [];
    const columns = Math.max(1, Math.min(tiles.length, Math.round(part('stage').clientWidth / (tiles[0]?.frameElement.offsetWidth + 6 || 1))));
    const frame = { width: width * scale, height: height * scale, stepX: width * scale + GAP, stepY: height * scale + LINE + GAP };
    const content = Math.max(columns * frame.stepX - GAP, MIN_WIDTH), patchTop = GAP + Math.ceil(tiles.length / columns) * frame.stepY;
    const { width: w, height: h } = lens.loupe.patch(), zoom = Math.max(2, Math.floor(PATCH_WIDTH / w));
    const patch = { width: w * zoom, height: h * zoom, stepX: Math.max(w * zoom, PATCH_WIDTH) + GAP, stepY: h * zoom + LINE + GAP };
    const perRow = Math.max(1, Math.floor((content + GAP) / patch.stepX)), cell = (i, count, top, { stepX, stepY }) => (
      [GAP + (i % count) * stepX, top + Math.floor(i / count) * stepY]);
    return {
      tiles, patches, frame, patch, width: content + 2 * GAP, height: patchTop + Math.ceil(patches.length / perRow) * patch.stepY + 2 * LINE + GAP,
      frameAt: i => cell(i, columns, GAP, frame), patchAt: i => cell(i, perRow, patchTop, patch),
    };
  }

  function make() {
    const { tiles, patches, frame, patch, frameAt, patchAt, ...dimensions } = layout(), { left, top, width, height, scale } = cropAndScale();
    const canvas = node('canvas', dimensions);
    const context = canvas.getContext('2d'), write = (text, x, y, room, color = INK, align = 'left', weight = '') => {
      Object.assign(context, { fillStyle: color, font: `${weight} 13px ${FONT}`, textAlign: align });
      context.fillText(text, x, y, room);
    };
    context.imageSmoothingEnabled = false;
    context.fillStyle = PAPER;
    context.fillRect(0, 0, canvas.width, canvas.height);
    tiles.forEach((tile, i) => {
      const [x, y] = frameAt(i);
      context.drawImage(tile.canvas, left, top, width, height, x, y, frame.width, frame.height);
      const [first, second] = viewport.captions(tile).map(({ name, score }) => [name, score].filter(Boolean).join('  '));
      const room = (frame.width - (second ? GAP : 0)) / (second ? 2 : 1), baseline = y + frame.height + BASELINE;
      write(first, x, baseline, room);
      if (second) write(second, x + frame.width, baseline, room, INK, 'right');
      if (view.layout !== 'wipe') return;
      context.fillStyle = PAPER;
      context.fillRect(x + (viewport.wipeColumn() - left) * scale - 1, y, 2, frame.height);
    });
    patches.forEach(({ key, canvas: pixels }, i) => {
      const [x, y] = patchAt(i);
      context.drawImage(pixels, x, y, patch.width, patch.height);
      write(lens.method(key).label, x, y + patch.height + BASELINE, patch.stepX - GAP);
    });
    footer().forEach((text, i) => write(text, GAP, canvas.height - GAP - LINE * (1 - i) - 2, canvas.width - 2 * GAP, i ? PALE : INK, 'left', i ? '' : '600'));
    return canvas;
  }

  // URL of the clip of the visible methods, written by the server; a snapshot also has the methods of its validation clip.
  function clipUrl() {
    if (lens.props.fetch) return null;              // no server
    const all = lens.visibleMethods().map(key => lens.method(key).image_folder), home = all.find(folder => folder.includes('/snapshots/')) || all[0];
    return home.replace(/\/frames\/[^/]+$/, `/clips/${lens.visibleMethods().join('+')}.webm`);
  }

  async function saveClip() {
    const url = clipUrl(), button = part('clip');
    if (!url || button.disabled) return;
    button.disabled = true;
    lens.setStatus('Writing the clip …');
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(await answer.text());
      download(await answer.blob(), `${lens.scene.id}-${lens.visibleMethods().join('-')}-lossless.webm`);
      lens.setStatus('');
    } catch (error) {
      lens.setStatus(`No clip: ${error.message}`);
    }
    button.disabled = false;
  }

  function download(blob, name) {
    const url = URL.createObjectURL(blob);
    node('a', { href: url, download: name.replace(/[^\w.-]+/g, '_') }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  const png = () => new Promise(done => { make().toBlob(done, 'image/png'); });

  async function copy() {
    try {
      await navigator.clipboard.write([new ClipboardItem({ 'image/png': png() })]);   // a promise: Safari requires it at once
      lens.setStatus('The figure is on the clipboard.');
    } catch (error) {
      lens.setStatus(`The browser does not let this page copy images (${error.name}); save the figure instead.`);
    }
  }

  async function save() { download(await png(), `${[lens.scene.id, `frame${lens.frame + 1}`, view.layout].join('-')}.png`); }

  return { make, copy, save, saveClip, clipUrl };
}

// Export: the visible frames as PNG, with names, scores and provenance, and the clip as WebM.

import { formatNumber, node } from './dom.js';

const PAPER = '#ffffff', INK = '#111111', PALE = '#555555';
const FONT = 'system-ui, sans-serif';

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

  function make() {
    const { tiles } = viewport, { left, top, width, height, scale } = cropAndScale(), gap = 8, line = 18;
    const columns = Math.max(1, Math.min(tiles.length, Math.round(part('stage').clientWidth / (tiles[0]?.frameElement.offsetWidth + 6 || 1))));
    const extra = view.loupe && view.pinned ? lens.loupe.patches : [], patch = lens.loupe.patch(), zoom = Math.max(2, Math.floor(112 / patch.width));
    const rows = Math.ceil(tiles.length / columns), across = columns * width * scale + (columns - 1) * gap;
    const apart = Math.max(patch.width * zoom, 112) + gap, perRow = Math.max(1, Math.floor((Math.max(across, 360) + gap) / apart));
    const bands = Math.ceil(extra.length / perRow), under = rows * (height * scale + line + gap);
    const canvas = node('canvas', { width: Math.max(across, 360) + 2 * gap, height: under + bands * (patch.height * zoom + line + gap) + 2 * line + 2 * gap });
    const context = canvas.getContext('2d'), write = (text, x, y, room, color = INK, align = 'left', weight = '') => {
      Object.assign(context, { fillStyle: color, font: `${weight} 13px ${FONT}`, textAlign: align });
      context.fillText(text, x, y, room);
    };
    context.imageSmoothingEnabled = false;
    context.fillStyle = PAPER;
    context.fillRect(0, 0, canvas.width, canvas.height);
    tiles.forEach((tile, i) => {
      const x = gap + (i % columns) * (width * scale + gap), y = gap + Math.floor(i / columns) * (height * scale + line + gap);
      context.drawImage(tile.canvas, left, top, width, height, x, y, width * scale, height * scale);
      const [first, second] = viewport.captions(tile).map(({ name, score }) => [name, score].filter(Boolean).join('  '));
      const room = (width * scale - (second ? gap : 0)) / (second ? 2 : 1);
      write(first, x, y + height * scale + 14, room);
      if (second) write(second, x + width * scale, y + height * scale + 14, room, INK, 'right');
      if (view.layout !== 'wipe') return;
      context.fillStyle = PAPER;
      context.fillRect(x + (viewport.wipeColumn() - left) * scale - 1, y, 2, height * scale);
    });
    extra.forEach(({ key, canvas: pixels }, i) => {   // the pinned loupe, a patch per method
      const x = gap + (i % perRow) * apart, y = gap + under + Math.floor(i / perRow) * (patch.height * zoom + line + gap);
      context.drawImage(pixels, x, y, patch.width * zoom, patch.height * zoom);
      write(lens.method(key).label, x, y + patch.height * zoom + 14, apart - gap);
    });
    footer().forEach((text, i) => write(text, gap, canvas.height - gap - line * (1 - i) - 2, canvas.width - 2 * gap, i ? PALE : INK, 'left', i ? '' : '600'));
    return canvas;
  }

  // URL of the clip of the methods on show, written by the server; a snapshot also has the methods of its validation clip.
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

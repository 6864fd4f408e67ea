// The tiles that show the frames: their size on the page, zoom and pan, what is drawn into them, and the pointer over them.

import { pixelsOf } from './image_cache.js';
import { clamp, draggable, formatNumber, isFiniteNumber, node, pointerIn } from './dom.js';

export const ZOOMS = ['fit', 1, 2, 3, 4, 6, 8];
const GAP = 6;                                      // between tiles, in CSS pixels
const WIDE = 980;                                   // width of the page from which maps and loupe are next to the frames
const FRAME_SHARE = 0.54, GRID_SHARE = 0.66;        // part of a wide page for the frames: one, and side by side
const WIDE_HEIGHT = 0.68, NARROW_HEIGHT = 0.8, HEIGHTS = [240, 1000];   // part of the window's height for the frames, and its limits

export function createViewport(lens) {
  const { part, root, view, images } = lens;
  let tiles = [];                                   // [{ keys, frameElement, panLayer, canvas, context, labels, divider, loupeOutline, sliceLine, mean }]
  let visible = [1, 1];                             // width and height of the visible part, in pixels of the frame

  const size = () => [lens.scene.width, lens.scene.height];

  function makeTiles() {
    const groups = view.layout === 'grid' ? lens.visibleMethods().map(key => [key]) : [[view.left, view.right]];
    tiles = groups.map(keys => {
      const canvas = node('canvas', { width: lens.scene.width, height: lens.scene.height });
      const context = canvas.getContext('2d', { willReadFrequently: view.layout === 'difference' });
      context.imageSmoothingEnabled = false;        // `low` is enlarged pixel by pixel
      const labels = keys.map((_, side) => node('span', { className: `lens-label ${side ? 'right' : 'left'}` }));
      const loupeOutline = node('i', { className: 'lens-loupe-outline' }), sliceLine = node('i', { className: 'lens-slice-line' });
      const panLayer = node('div', { className: 'lens-pan-layer' }, canvas, loupeOutline, sliceLine);
      const frameElement = node('div', { className: 'lens-tile' }, panLayer, ...labels);
      const tile = { keys, frameElement, panLayer, canvas, context, labels, loupeOutline, sliceLine, divider: null };
      if (view.layout === 'wipe') addDivider(tile);
      listen(tile);
      return tile;
    });
    part('stage').replaceChildren(...tiles.map(tile => tile.frameElement));
    if (!tiles.length) part('stage').append(node('p', { className: 'lens-empty', textContent: 'Choose a method to show.' }));
    fit();
  }

  function addDivider(tile) {
    tile.divider = node('i', { className: 'lens-divider', tabIndex: 0, role: 'slider', ariaLabel: 'Border between left and right, in percent' });
    tile.divider.addEventListener('keydown', event => {
      const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (by) { wipeTo(view.wipe + by); event.preventDefault(); event.stopPropagation(); }
    });
    tile.frameElement.append(tile.divider);
  }

  // The number of columns with which the frames are largest in this room, and their scale.
  function chooseColumns(room) {
    let best = { scale: 0, columns: 1, rows: tiles.length };
    for (let columns = 1; columns <= tiles.length; columns++) {
      const rows = Math.ceil(tiles.length / columns), share = tileRoom(room, columns, rows);
      const scale = Math.min(...share.map((pixels, i) => pixels / size()[i]));
      if (scale > best.scale) best = { scale, columns, rows };
    }
    return best;
  }

  const tileRoom = (room, columns, rows) => [columns, rows].map((count, i) => (room[i] - GAP * (count - 1)) / count);
  const scaled = factor => size().map(pixels => Math.max(1, Math.floor(pixels * factor)));

  // Sizes of the tiles on the page. On a wide page the frames get the width that their height allows, and maps and loupe the rest.
  function fit() {
    if (!lens.scene || !tiles.length) return;
    const page = part('main').clientWidth, wide = page >= WIDE && !part('side').hidden;
    const width = wide ? Math.floor(page * (view.layout === 'grid' ? GRID_SHARE : FRAME_SHARE)) : page;
    const room = [width, clamp(innerHeight * (wide ? WIDE_HEIGHT : NARROW_HEIGHT), ...HEIGHTS)];
    applyLayout({ ...chooseColumns(room), room, wide });
    panTo(...view.pan);
    lens.loupe.fit();
  }

  function applyLayout({ scale: fitScale, columns, rows, room, wide }) {
    const fits = view.zoom === 'fit', scale = fits ? fitScale : view.zoom, frame = scaled(scale), fitted = scaled(fitScale);
    const limits = tileRoom(room, columns, rows).map(Math.floor);
    if (wide) limits[0] = fitted[0];
    const tileSize = fits ? frame : frame.map((pixels, i) => Math.min(pixels, limits[i]));
    visible = fits ? size() : tileSize.map(pixels => pixels / scale);
    root.classList.toggle('wide', wide);
    part('main').style.gridTemplateColumns = wide ? `${fitted[0] * columns + GAP * (columns - 1)}px minmax(0, 1fr)` : '';
    part('stage').style.gridTemplateColumns = `repeat(${columns}, ${tileSize[0]}px)`;
    for (const { frameElement, panLayer, canvas } of tiles) {
      canvas.style.imageRendering = scale >= 1 ? 'pixelated' : 'auto';
      panLayer.style.width = `${frame[0]}px`;
      frameElement.style.height = fits ? '' : `${tileSize[1]}px`;
      frameElement.classList.toggle('zoomed', frame.some((pixels, i) => pixels > tileSize[i]));
    }
    root.style.setProperty('--label-size', tileSize[0] < 200 ? '10px' : '12px');
  }

  // Every tile shows the same part of its frame, from a whole pixel on.
  function panTo(x, y) {
    view.pan = [x, y].map((at, i) => clamp(Math.round(at), 0, Math.max(0, Math.ceil(size()[i] - visible[i]))));
    const scale = view.zoom === 'fit' ? 0 : view.zoom;
    for (const { panLayer } of tiles) panLayer.style.transform = scale ? `translate(${-view.pan[0] * scale}px, ${-view.pan[1] * scale}px)` : '';
  }

  // Zooms about a point of the frame, which keeps its place in the tiles.
  function zoomTo(zoom, [x, y] = view.point) {
    const share = [(x - view.pan[0]) / visible[0], (y - view.pan[1]) / visible[1]].map(s => (s >= 0 && s <= 1 ? s : 0.5));
    view.zoom = zoom;
    if (zoom === 'fit') view.pan = [0, 0];
    lens.controls.update();
    fit();
    if (zoom !== 'fit') panTo(x - share[0] * visible[0], y - share[1] * visible[1]);
    lens.draw();
  }

  const zoomBy = (steps, point) => zoomTo(ZOOMS[clamp(ZOOMS.indexOf(view.zoom) + steps, 0, ZOOMS.length - 1)], point);

  function panBy(dx, dy) {
    panTo(view.pan[0] + dx, view.pan[1] + dy);
    lens.draw();
  }

  // Column of the frame where the left side of a wipe ends.
  const wipeColumn = () => clamp(Math.round(view.pan[0] + view.wipe * visible[0]), 0, lens.scene.width);

  function wipeTo(share) {
    view.wipe = clamp(share, 0, 1);
    lens.draw();
  }

  function draw() {
    const { width } = lens.scene;
    for (const tile of tiles) {
      if (view.layout === 'difference') drawDifference(tile);
      else if (view.layout === 'flicker') drawColumns(tile, tile.keys[view.flipped ? 1 : 0], 0, width);
      else if (view.layout === 'wipe') {
        drawColumns(tile, tile.keys[0], 0, wipeColumn());
        drawColumns(tile, tile.keys[1], wipeColumn(), width);
      } else drawColumns(tile, tile.keys[0], 0, width);
    }
  }

  // Columns `from` to `to` of one method's frame, with its own map as overlay.
  function drawColumns({ context }, key, from, to) {
    if (to <= from) return;
    const [width, height] = size(), bitmap = images.bitmap(key), kind = lens.overlay(), entry = kind && images.overlayEntry(kind, key);
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.clearRect(from, 0, to - from, height);
    if (bitmap) context.drawImage(bitmap, 0, 0, width, height); else drawMissing(context);
    if (entry) {
      context.globalAlpha = view.opacity;
      context.drawImage(lens.featureMaps.colored(kind, key, entry), 0, 0, width, height);
    }
    context.restore();
  }

  function drawMissing(context) {
    const [width, height] = size();
    context.clearRect(0, 0, width, height);
    context.fillStyle = '#77777733';
    context.fillRect(0, 0, width, height);
    context.strokeStyle = '#777777';
    context.beginPath();
    for (let x = -height; x < width; x += 16) { context.moveTo(x, height); context.lineTo(x + height, 0); }
    context.stroke();
  }

  // |left - right| * gain, computed from the pixels: black means equal.
  function drawDifference(tile) {
    const [a, b] = tile.keys.map(key => images.bitmap(key)).map(bitmap => bitmap && pixelsOf(bitmap, ...size()));
    tile.mean = null;
    if (!a || !b) { drawMissing(tile.context); return; }
    let sum = 0;
    for (let i = 0; i < a.data.length; i += 4) {
      for (let c = i; c < i + 3; c++) {
        const difference = Math.abs(a.data[c] - b.data[c]);
        sum += difference;
        a.data[c] = difference * view.gain;         // Uint8ClampedArray: saturates at 255
      }
    }
    tile.mean = sum / (a.data.length / 4 * 3);
    tile.context.putImageData(a, 0, 0);
  }

  // Method, name and score for the label of each side of a tile.
  function captions(tile) {
    if (view.layout === 'difference') {
      const [a, b] = tile.keys.map(key => lens.method(key).label);
      return [{ name: `|${a} − ${b}| × ${view.gain}`, score: isFiniteNumber(tile.mean) ? `mean ${formatNumber(tile.mean)} of 255 levels` : 'no image' }];
    }
    const keys = view.layout === 'flicker' ? [tile.keys[view.flipped ? 1 : 0]] : tile.keys, curve = lens.score();
    return keys.map(key => {
      const value = curve?.series[key]?.[lens.frame];
      return { key, name: lens.method(key).label, score: isFiniteNumber(value) ? `${formatNumber(value)} ${curve.unit}`.trim() : '' };
    });
  }

  function label() {
    for (const tile of tiles) {
      const texts = captions(tile), kind = lens.overlay();
      tile.labels.forEach((element, side) => {
        element.hidden = !texts[side];
        if (!texts[side]) return;
        const { key, name, score } = texts[side], parts = [node('b', { textContent: name }), ` ${score}`];
        if (key) parts.unshift(lens.dot(key));
        if (key && kind && !kind.by_method[key]) parts.push(node('em', { textContent: ' no map' }));
        element.replaceChildren(...parts);
        element.title = key ? lens.method(key).note : '';
      });
      if (tile.divider) {
        tile.divider.style.left = `${view.wipe * 100}%`;
        tile.divider.ariaValueNow = Math.round(view.wipe * 100);
      }
      mark(tile.loupeOutline, view.loupe, lens.loupe.patch());
      tile.loupeOutline.classList.toggle('pinned', view.pinned);
      mark(tile.sliceLine, view.panels.has('slice'), { left: 0, top: view.row, width: lens.scene.width, height: 1 });
    }
  }

  function mark(element, isVisible, { left, top, width, height }) {
    const [w, h] = size();
    element.hidden = !isVisible;
    Object.assign(element.style, { left: `${left / w * 100}%`, top: `${top / h * 100}%`, width: `${width / w * 100}%`, height: `${height / h * 100}%` });
  }

  // A drag moves the wipe, or the visible part of a zoomed frame; a click pins the loupe and chooses the row of the slice.
  function listen(tile) {
    const place = event => pointerIn(tile.canvas, event).map((share, i) => share * size()[i]);
    const share = event => pointerIn(tile.frameElement, event)[0], hover = event => { if (!view.pinned) lens.loupe.pointAt(...place(event)); };
    draggable(tile.frameElement, {
      begin: event => {
        const zoomed = tile.frameElement.classList.contains('zoomed'), near = Math.abs(share(event) - view.wipe) * tile.frameElement.clientWidth < 24;
        return { pan: view.pan, wipes: view.layout === 'wipe' && (!zoomed || near), pans: zoomed };
      },
      drag: (event, { pan, wipes, pans }, [dx, dy]) => {
        if (wipes) wipeTo(share(event));
        else if (pans) { panTo(pan[0] - dx / view.zoom, pan[1] - dy / view.zoom); lens.draw(); } else hover(event);
      },
      click: event => {
        view.pinned = !view.pinned || event.pointerType === 'touch' || view.panels.has('slice');
        lens.loupe.pointAt(...place(event));
        if (view.panels.has('slice')) lens.slice.rowAt(view.point[1]);
      },
      hover,
    });
    tile.frameElement.addEventListener('wheel', event => {   // without ctrl the wheel scrolls the page
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1 : -1, place(event));
    }, { passive: false });
  }

  return { makeTiles, fit, panTo, panBy, zoomTo, zoomBy, wipeColumn, draw, label, captions, get tiles() { return tiles; }, get visible() { return visible; } };
}

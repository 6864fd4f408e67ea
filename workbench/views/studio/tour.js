// Tour of the page Compare: a card explains five parts of the page, one after the other. It is shown until it is closed once,
// takes neither the focus nor space of the page, and leaves out parts that the page does not have.

import { clamp, node } from '../lens/dom.js';

const STORAGE_KEY = 'workbench-tour', GAP = 14, MARGIN = 8, PHONE = 640, SWEEP_MS = 2400, POLL_MS = 250;
const SIDES = ['below', 'right', 'left', 'above'], VERTICAL = ['below', 'above'];

const isStill = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
const visible = element => (element?.getClientRects().length ? element : null);

// A step: title, text; find(lens) returns the element that it explains, or null; show(lens) shows what the text is about
// and may return a function that undoes it. The lens is null while no scene is shown.
const STEPS = [
  {
    title: 'Wipe',
    text: 'One method is left of the line, another right of it, on the same frame. Drag the line over a texture or an edge. The menus Left and Right choose the methods.',
    find: lens => lens && visible(lens.part('stage')),
    show: sweep,
  },
  {
    title: 'Attention maps',
    text: 'An attention map is the energy of a network’s features at each pixel; bright is high. The spatial loss, where a training uses it, makes the student match the map of its teacher. The line above the frames names the losses of this student, if its run is known.',
    find: lens => lens && findMaps(lens, lens.featureMaps.attention(), 'attention-panel'),
    show: lens => overlay(lens, lens.featureMaps.attention().kind),
  },
  {
    title: 'Memory cells',
    text: 'Memory cells are the state that a ConvLSTM carries from frame to frame. The temporal loss, where a training uses it, makes the student match the cells of its teacher. Play the clip to see them change.',
    find: lens => lens && findMaps(lens, lens.featureMaps.memory(), 'memory-panel'),
    show: lens => overlay(lens, lens.featureMaps.memory().kind),
  },
  {
    title: 'Worst frames',
    text: 'The frames on which a method scores worst come first. A click on one shows it above, so that you see where the method fails.',
    find: lens => lens && (visible(lens.part('worst')) || visible(lens.root.querySelector('[data-panel=worst]'))),
    show: lens => { if (!lens.view.panels.has('worst')) lens.root.querySelector('[data-panel=worst]').click(); },
  },
  {
    title: 'Live run',
    text: 'The page Run shows a training while it runs: its losses, and this viewer for each snapshot. The distilled student is next to the plain one at the same training step.',
    find: () => visible(document.querySelector('nav a[href$="/run"]')),
  },
];

// The panel of the maps; the frames, where the maps are drawn over them in a page of one column; the checkbox of hidden panels.
function findMaps(lens, kind, panel) {
  if (!kind) return null;
  const isOverFrames = lens.view.overlay === kind.kind && !lens.root.classList.contains('wide');
  return visible(lens.part(isOverFrames ? 'stage' : panel)) || visible(lens.part('show-maps').parentElement);
}

// Moves the wipe over the frame and back.
function sweep(lens) {
  const { view } = lens, begin = performance.now(), stage = lens.part('stage');
  let request = 0, moving = true;
  const moveTo = share => { view.wipe = share; lens.draw(); };
  const stop = () => { cancelAnimationFrame(request); moving = false; };
  const step = now => {
    const time = clamp((now - begin) / SWEEP_MS, 0, 1);
    moveTo(0.5 - 0.38 * Math.sin(2 * Math.PI * time));
    if (time < 1) request = requestAnimationFrame(step);
    else stop();
  };
  if (view.layout !== 'wipe') { view.layout = 'wipe'; lens.rearrange(); }
  stage.addEventListener('pointerdown', stop, { once: true });
  if (isStill()) moveTo(0.2);
  else request = requestAnimationFrame(step);
  return () => { if (moving) { stop(); moveTo(0.5); } };
}

// Draws maps over the frames.
function overlay(lens, kind) {
  const { view } = lens, before = view.overlay, set = value => { view.overlay = value; lens.rearrange(); };
  if (view.layout === 'difference') view.layout = 'wipe';
  view.showMaps = true;
  set(kind);
  return () => { if (view.overlay === kind) set(before); };
}

export function mountTour(element) {
  const button = (text, onclick, className = '') => node('button', { type: 'button', textContent: text, onclick, className });
  const count = node('small'), title = node('strong'), text = node('p');
  const back = button('Back', () => go(-1)), next = button('Next', () => go(1), 'main'), show = button('Show it', act);
  const link = node('a', { textContent: 'Open the page Run', onclick: remember });
  const cross = Object.assign(button('×', close, 'cross'), { ariaLabel: 'Close the tour', title: 'Close (Esc)' });
  const arrow = node('i', { className: 'arrow' });
  const card = node('aside', { className: 'card', hidden: true, ariaLabel: 'Tour' },
    arrow, count, title, text, node('div', { className: 'acts' }, show, link, back, next), cross);
  const opener = button('Show the tour', () => { current = 0; open(true); }, 'opener');
  let current = 0, target = null, undo = null;

  element.querySelector('p').append(' ', opener);
  element.querySelector('.tour').append(card);

  function remember() {
    try { localStorage.setItem(STORAGE_KEY, 'closed'); } catch { /* storage is blocked: the next visit is a first one */ }
  }
  function isRemembered() {
    try { return localStorage.getItem(STORAGE_KEY) !== null; } catch { return false; }
  }

  function lens() {
    const { lens } = document.querySelector('#compare-lens .lens') ?? {};
    return lens?.scene ? lens : null;
  }
  const available = () => STEPS.filter(step => step.find(lens()));

  function open(scrolls) {
    card.hidden = false;
    render(scrolls);
  }

  function close() {
    const hadFocus = card.contains(document.activeElement);
    remember();
    leave();
    card.hidden = true;
    if (hadFocus) opener.focus({ preventScroll: true });
  }

  function leave() {                                // ends what belongs to a step
    undo?.();
    undo = null;
    mark(null);
  }

  function mark(element) {
    if (element === target) return;
    if (target) Object.assign(target.style, { outline: '', outlineOffset: '', borderRadius: '', scrollMarginTop: '' });
    target = element;
    if (target) Object.assign(target.style, { outline: '3px solid var(--color-accent)', outlineOffset: '3px', borderRadius: '4px', scrollMarginTop: '64px' });
  }

  function go(by) {
    const steps = available(), at = steps.indexOf(STEPS[current]) + by;
    if (at >= steps.length) { close(); return; }
    leave();
    current = STEPS.indexOf(steps[Math.max(0, at)]);
    render(true);
  }

  function act() {
    undo?.();
    undo = STEPS[current].show(lens()) ?? null;
    place();
    reveal();
  }

  function render(scrolls) {
    const steps = available(), step = steps.find(one => STEPS.indexOf(one) >= current) ?? steps.at(-1);
    if (!step) { card.hidden = true; return; }
    current = STEPS.indexOf(step);
    const at = steps.indexOf(step);
    count.textContent = `Step ${at + 1} of ${steps.length}`;
    title.textContent = step.title;
    text.textContent = step.text;
    show.hidden = !step.show;
    link.hidden = !!step.show;
    if (at === 0 && document.activeElement === back) next.focus();
    back.hidden = at === 0;
    next.textContent = at === steps.length - 1 ? 'Done' : 'Next';
    place();
    if (!step.show) link.href = step.find(lens()).href;
    if (scrolls) reveal();
  }

  // Scrolls to the explained element, if it is not fully visible next to the card.
  function reveal() {
    const box = target.getBoundingClientRect(), { clientWidth, clientHeight } = document.documentElement;
    const free = clientHeight - (clientWidth < PHONE ? card.offsetHeight + GAP : 0);
    if (box.top >= 0 && box.bottom <= free) return;
    const block = clientWidth < PHONE || box.height > free / 2 ? 'start' : 'center';
    target.scrollIntoView({ block, behavior: isStill() ? 'auto' : 'smooth' });
  }

  // Puts the card on the first side of the element that has room, else, and on a phone, at the lower end of the window.
  function place() {
    if (card.hidden) return;
    const found = STEPS[current].find(lens());
    if (!found) { leave(); render(false); return; }   // another scene does not have it
    mark(found);
    const box = target.getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = card;
    const { clientWidth, clientHeight } = document.documentElement;
    const room = { below: clientHeight - box.bottom, right: clientWidth - box.right, left: box.left, above: box.top };
    const side = clientWidth < PHONE ? '' : SIDES.find(name => room[name] >= (VERTICAL.includes(name) ? height : width) + GAP + MARGIN) ?? '';
    const corner = [clientWidth - width - MARGIN, clientHeight - height - MARGIN], middle = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    const [x, y] = {
      below: [middle[0] - width / 2, box.bottom + GAP], above: [middle[0] - width / 2, box.top - height - GAP],
      right: [box.right + GAP, middle[1] - height / 2], left: [box.left - width - GAP, middle[1] - height / 2],
    }[side] ?? corner;
    const at = [clamp(x, MARGIN, Math.max(MARGIN, corner[0])), clamp(y, MARGIN, Math.max(MARGIN, corner[1]))];
    Object.assign(card.style, { left: `${at[0]}px`, top: `${at[1]}px` });
    card.dataset.side = side;
    const alongX = VERTICAL.includes(side);
    const tip = alongX ? clamp(middle[0] - at[0], 18, width - 18) : clamp(middle[1] - at[1], 18, height - 18);
    Object.assign(arrow.style, alongX ? { left: `${tip}px`, top: '' } : { top: `${tip}px`, left: '' });
  }

  addEventListener('scroll', place, { passive: true, capture: true });
  addEventListener('resize', place);
  new ResizeObserver(place).observe(document.body);
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape' && !card.hidden && !event.defaultPrevented) close();
  });

  if (isRemembered()) return;
  const waiting = setInterval(() => {               // until the first scene is shown
    if (element.isConnected && card.hidden && !lens()) return;
    clearInterval(waiting);
    if (element.isConnected && card.hidden) open(false);
  }, POLL_MS);
}

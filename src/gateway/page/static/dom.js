// Makes elements; text is always text, never markup.

/** An element. Attributes with `null` or `false` are left out; `on…` are listeners. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * Shows `items` as children of `parent`. A child whose signature has not changed is kept as it is, with its focus and
 * what is open in it.
 */
export function show(parent, items, key, signature, make) {
  const before = parent.shown ?? new Map();
  const after = new Map();
  const children = items.map((item) => {
    const id = key(item);
    const sign = signature(item);
    const known = before.get(id);
    const child = known?.sign === sign ? known.child : make(item, known?.child);
    after.set(id, { sign, child });
    return child;
  });
  const same = parent.children.length === children.length && children.every((child, at) => parent.children[at] === child);
  if (!same) {
    const focused = parent.contains(document.activeElement) ? document.activeElement : null;
    const focusKey = focused?.getAttribute('data-key');
    parent.replaceChildren(...children);
    if (focused && !focused.isConnected && focusKey) {
      [...parent.querySelectorAll('[data-key]')].find((found) => found.getAttribute('data-key') === focusKey)?.focus();
    } else if (focused?.isConnected && document.activeElement !== focused) focused.focus();
  }
  parent.shown = after;
}

/** A table that becomes a list of cards on a narrow screen; roles keep its meaning there. */
export function table(label, columns) {
  const body = el('tbody', { role: 'rowgroup' });
  const heads = columns.map(({ name, number }) =>
    el('th', { scope: 'col', role: 'columnheader', class: number ? 'number' : null }, name || el('span', { class: 'hidden' }, 'Actions')));
  const element = el('table', { class: 'cards', role: 'table', 'aria-label': label },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, heads)), body);
  return { element, body, columns };
}

/** A row of such a table. */
export function row(of, cells) {
  return el('tr', { role: 'row' }, cells.map((cell, at) => {
    const { name, number, wide, whole } = of.columns[at];
    const isBlank = cell === '' || cell === null || cell === undefined;
    const kind = [number && 'number', wide && 'wide', whole && 'whole', isBlank && 'blank'].filter(Boolean).join(' ');
    return el('td', { role: 'cell', class: kind || null, 'data-label': name || null }, isBlank ? '' : cell);
  }));
}

/** A bar of a share. Drawn here, because each browser draws `meter` in its own way. */
export function meter(name, share, shown) {
  const fill = el('span', { class: share >= 0.95 ? 'bad' : share >= 0.8 ? 'warn' : null });
  fill.style.width = `${Math.min(1, Math.max(0, share)) * 100}%`;
  return el('span', { class: 'bar', role: 'meter', 'aria-label': name, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(share * 100), 'aria-valuetext': shown }, fill);
}

/**
 * Asks before an action. `choices` are pairs of a value and its text, and `label` says what they are. The promise has
 * what was chosen (`true` without choices), or `null`.
 */
export function ask(question, { yes, no, label, choices = [] }) {
  const opener = document.activeElement?.getAttribute('data-key');
  return new Promise((answer) => {
    const select = choices.length > 0 ? el('select', {}, choices.map(([value, shown]) => el('option', { value }, shown))) : null;
    const finish = (value) => {
      dialog.close();
      dialog.remove();
      // what was shown below may have been replaced meanwhile
      if (opener) [...document.querySelectorAll('[data-key]')].find((found) => found.getAttribute('data-key') === opener)?.focus();
      answer(value);
    };
    const dialog = el('dialog', { 'aria-labelledby': 'question', oncancel: (event) => { event.preventDefault(); finish(null); } },
      el('p', { id: 'question' }, question), select && el('label', {}, label, select),
      el('div', { class: 'actions' },
        el('button', { type: 'button', 'data-answer': 'no', onclick: () => finish(null) }, no),
        el('button', { type: 'button', 'data-answer': 'yes', onclick: () => finish(select ? select.value : true) }, yes)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Sets a text only if it has changed, so that a screen reader is not disturbed. */
export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** A section with a heading. */
export function section(id, title, ...children) {
  const note = el('span', { class: 'note' });
  const element = el('section', { 'aria-labelledby': `${id}-title`, id },
    el('header', {}, el('h2', { id: `${id}-title` }, title), note), ...children);
  return { element, note };
}

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
    const { name, number, wide } = of.columns[at];
    const isBlank = cell === '' || cell === null || cell === undefined;
    const kind = [number && 'number', wide && 'wide', isBlank && 'blank'].filter(Boolean).join(' ');
    return el('td', { role: 'cell', class: kind || null, 'data-label': name || null }, isBlank ? '' : cell);
  }));
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

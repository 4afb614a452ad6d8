const data = JSON.parse(document.getElementById('data').textContent)
const panel = document.getElementById('detail')
const cells = [...document.querySelectorAll('[data-key]')]
let kept = null

// ---- what is known of a copy
function element(name, text, link) {
  const made = document.createElement(link ? 'a' : name)
  if (link) made.href = '#' + link
  made.textContent = text
  return made
}
function row(list, label, content) {
  const value = document.createElement('dd')
  value.append(...content)
  list.append(element('dt', label), value)
}
function places(entries) {
  return entries.flatMap(([line, place, text]) => [element('span', place, line), element('code', text)])
}
function show(cell) {
  const told = data[cell.dataset.key]
  for (const each of cells) each.classList.toggle('on', each.dataset.key === cell.dataset.key)
  panel.hidden = false
  panel.classList.toggle('kept', kept !== null)
  panel.querySelector('h3').textContent = told.title + (told.status === 'same' ? '' : ` (${told.status})`)
  const list = panel.querySelector('dl')
  list.replaceChildren()
  for (const [label, value] of Object.entries(told.rows)) {
    row(list, label, Array.isArray(value) ? value.map(each => element('div', each)) : [value])
  }
  if (told.spec.length) row(list, 'in the spec', places(told.spec))
  if (told.made.length) row(list, 'in the model', places(told.made))
}
function hide() {
  kept = null
  panel.hidden = true
  for (const each of cells) each.classList.remove('on')
}
function keep(cell) {
  kept = cell
  show(cell)
}

// ---- by keyboard the drawing is one stop, within which arrows lead to the nearest box that way
function current(cell) {
  for (const each of cells) each.tabIndex = each === cell ? 0 : -1
}
function middle(cell) {
  const box = cell.getBoundingClientRect()
  return [box.left + box.width / 2, box.top + box.height / 2]
}
function nearest(from, dx, dy) {
  const [x, y] = middle(from)
  let best = null, least = Infinity
  for (const cell of cells) {
    const [cx, cy] = middle(cell)
    const along = (cx - x) * dx + (cy - y) * dy, across = Math.abs((cx - x) * dy) + Math.abs((cy - y) * dx)
    if (along > 4 && along + 3 * across < least) [best, least] = [cell, along + 3 * across]
  }
  return best
}
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }
for (const cell of cells) {
  cell.setAttribute('role', 'button')
  cell.addEventListener('mouseenter', () => kept || show(cell))
  cell.addEventListener('mouseleave', () => kept || document.activeElement === cell || hide())
  cell.addEventListener('focus', () => { current(cell); if (kept !== cell) { kept = null; show(cell) } })
  cell.addEventListener('click', () => kept === cell ? hide() : keep(cell))
  cell.addEventListener('keydown', event => {
    const way = ARROWS[event.key]
    if (way) {
      event.preventDefault()
      nearest(cell, ...way)?.focus()
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault()
      keep(cell)
    }
  })
}
if (cells.length) current(cells[0])
document.getElementById('close').addEventListener('click', hide)
document.addEventListener('keydown', event => event.key === 'Escape' && hide())
for (const link of document.querySelectorAll('[data-show]')) {
  link.addEventListener('click', event => {
    const cell = cells.find(each => each.dataset.key === link.dataset.show)
    if (!cell) return
    event.preventDefault()
    cell.focus({ preventScroll: true })
    cell.scrollIntoView({ block: 'center', inline: 'center' })
    keep(cell)
  })
}

// ---- links to lines of code open what they stand in
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  for (let each = target; each; each = each.parentElement) if (each.tagName === 'DETAILS') each.open = true
  for (const line of document.querySelectorAll('.line.at')) line.classList.remove('at')
  if (target?.classList.contains('line')) {
    target.classList.add('at')
    target.scrollIntoView({ block: 'center' })
  }
}
addEventListener('hashchange', reveal)
reveal()

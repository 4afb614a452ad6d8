'use strict'
const root = document.documentElement

// ---- light and dark
document.getElementById('theme').addEventListener('click', () => {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
  root.dataset.theme = dark ? 'light' : 'dark'
})

// ---- tables
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.querySelectorAll('th')]
  heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
    const falls = head.getAttribute('aria-sort') === (head.classList.contains('n') ? null : 'ascending')
    for (const each of heads) each.removeAttribute('aria-sort')
    head.setAttribute('aria-sort', falls ? 'descending' : 'ascending')
    const body = table.tBodies[0]
    const value = line => line.cells[column].dataset.n ?? line.cells[column].textContent
    const compare = (one, other) => head.classList.contains('n')
      ? Number(value(one)) - Number(value(other)) : value(one).localeCompare(value(other))
    body.append(...[...body.rows].sort((one, other) => falls ? compare(other, one) : compare(one, other)))
  }))
}
addEventListener('beforeprint', () => { root.dataset.before = root.dataset.theme ?? ''; root.dataset.theme = 'light' })
addEventListener('afterprint', () => {
  if (root.dataset.before) root.dataset.theme = root.dataset.before
  else delete root.dataset.theme
})

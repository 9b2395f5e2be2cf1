// A field that filters all tables of a page that asks for it: <div class="filter-tables">.
// Without this script, the page has its whole tables, and no field.

function groups(table) {
    // Rows below a heading of their own: a row that begins with a bold name.
    const found = [];
    for (const row of table.tBodies[0].rows) {
        const heads = row.cells[0].querySelector("strong");
        if (heads || !found.length) found.push({heading: heads ? row : null, rows: []});
        if (!heads) found[found.length - 1].rows.push(row);
    }
    return found;
}

function filter(tables, words) {
    // A row stays if it, with its heading, has all words. Returns how many rows stay.
    const fits = text => words.every(word => text.toLowerCase().includes(word));
    let kept = 0;
    for (const {element, parts} of tables) {
        let shown = 0;
        for (const {heading, rows} of parts) {
            const name = heading ? heading.textContent : "";
            for (const row of rows) row.hidden = !fits(`${name} ${row.textContent}`);
            const below = rows.filter(row => !row.hidden).length;
            if (heading) heading.hidden = !below && !fits(name);
            shown += below || (heading && !heading.hidden);
        }
        (element.closest(".table-wrapper") || element).hidden = !shown;
        kept += shown;
    }
    return kept;
}

function begin() {
    const place = document.querySelector("div.filter-tables");
    if (!place) return;
    const elements = [...document.querySelectorAll("table.docutils")];
    const tables = elements.filter(own => own.tBodies.length)
        .map(element => ({element, parts: groups(element)}));
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = place.dataset.label || "filter the tables";
    field.setAttribute("aria-label", field.placeholder);
    const told = document.createElement("output");
    const all = filter(tables, []);
    const refresh = () => {
        const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
        const kept = filter(tables, words);
        told.textContent = words.length ? `${kept} of ${all} rows` : "";
    };
    field.addEventListener("input", refresh);
    place.append(field, told);
}

document.addEventListener("DOMContentLoaded", begin);

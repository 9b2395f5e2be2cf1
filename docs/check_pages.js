// What a reader cannot see of the pages NAMES, which lie in ROOT, at the WIDTHS.

const PLACES = "article, .toc-drawer, .sidebar-drawer";
const SLACK = 2;  // of rounding, in pixels

const HIDDEN = ".headerlink, .visually-hidden, .skip-to-content, script, style, svg";

function fault(element, box, page) {
    // The boxes around decide, from the inside out: a scroll bar shows all of it.
    const place = element.closest(PLACES);
    for (let outer = element; outer; outer = outer.parentElement) {
        const inside = outer.getBoundingClientRect();
        const overflow = page.getComputedStyle(outer).overflowX;
        const wide = box.right > inside.right + SLACK || box.left < inside.left - SLACK;
        if (outer === place) return wide ? "no scroll bar" : null;
        if (["auto", "scroll"].includes(overflow)) return null;
        if (["hidden", "clip"].includes(overflow) && wide) return "cut off";
    }
}

function* boxes(page) {
    // Of all that is read: texts, formulas and pictures.
    const text = page.document.createTreeWalker(page.document.body, NodeFilter.SHOW_TEXT);
    const range = page.document.createRange();
    while (text.nextNode()) {
        const element = text.currentNode.parentElement;
        if (!text.currentNode.data.trim() || element.closest("math")) continue;
        range.selectNodeContents(text.currentNode);
        for (const box of range.getClientRects()) yield [element, box];
    }
    for (const element of page.document.querySelectorAll("math, img"))
        yield [element, element.getBoundingClientRect()];
}

function measure(name, frame, width) {
    const page = frame.contentWindow, root = page.document.documentElement;
    const faults = new Map();
    if (root.scrollWidth > width) faults.set(root, [name, width, "page", root.scrollWidth]);
    for (const [element, box] of boxes(page)) {
        if (!box.width || !element.closest(PLACES) || element.closest(HIDDEN)) continue;
        const kind = faults.has(element) ? null : fault(element, box, page);
        if (kind) {
            const text = element.textContent.trim().slice(0, 60).replace(/\s+/g, " ");
            const what = `${element.tagName.toLowerCase()} ${text}`;
            faults.set(element, [name, width, kind, what]);
        }
    }
    return [...faults.values()];
}

async function main() {
    const found = [];
    for (const name of NAMES) for (const width of WIDTHS) {
        const frame = document.createElement("iframe");
        frame.style = `width:${width}px;height:800px;border:0`;
        const loaded = new Promise(done => frame.onload = done);
        frame.src = ROOT + name;
        document.body.append(frame);
        await loaded;
        found.push(...measure(name, frame, width));
        frame.remove();
    }
    document.body.innerHTML = "";
    const result = document.createElement("pre");
    result.id = "found";
    result.textContent = JSON.stringify(found);
    document.body.append(result);
}
main();

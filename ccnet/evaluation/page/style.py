"""How the page looks: light, dark, narrow, and on paper."""

# Text against its ground has a contrast of 4.5 or more in both modes; colour-blind eyes tell the series apart.
LIGHT = {
    "paper": "#f4f5f7",
    "card": "#ffffff",
    "ink": "#15181c",
    "soft": "#545d68",
    "line": "#dde2e8",
    "right": "#0a5fb4",
    "wrong": "#c2410c",
    "s0": "#0a5fb4",
    "s1": "#c2410c",
    "s2": "#00795c",
    "s3": "#9a3d7c",
    "s4": "#8a6100",
    "s5": "#545d68",
}
DARK = {
    "paper": "#0e1116",
    "card": "#171c23",
    "ink": "#e8ebef",
    "soft": "#a3adb9",
    "line": "#303842",
    "right": "#58a6ff",
    "wrong": "#ff8f4f",
    "s0": "#6cb6ff",
    "s1": "#ff9b62",
    "s2": "#4cc9a0",
    "s3": "#e08fc5",
    "s4": "#e3b341",
    "s5": "#a3adb9",
}
NUM_SERIES = sum(name.startswith("s") and name[1:].isdigit() for name in LIGHT)


def _variables(colors: dict[str, str]) -> str:
    return "; ".join(f"--{name}: {color}" for name, color in colors.items())


def _series() -> str:
    rules = (
        f".s{index} {{ stroke: var(--s{index}) }} i.s{index} {{ background: var(--s{index}) }} "
        f"circle.s{index} {{ fill: var(--s{index}) }}"
        for index in range(NUM_SERIES)
    )
    return "\n".join(rules)


STYLE = f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere }}
main, header, footer {{ max-width: 1200px; margin: 0 auto; padding: 0 24px }}
header {{ padding-top: 40px }}
header p, footer p {{ margin: 0; color: var(--soft) }}
footer {{ padding-bottom: 40px; font-size: 13px }}
h1 {{ margin: 2px 0 4px; font-size: 28px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em }}
h2 {{ margin: 0 0 2px; font-size: 18px; font-weight: 650; letter-spacing: -.01em }}
h3 {{ margin: 0 0 8px; font-size: 14px; font-weight: 600 }}
section {{ margin: 20px 0; padding: 22px 24px; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px }}
section > p {{ margin: 0 0 14px; color: var(--soft); max-width: 80ch }}
section.summary {{ padding: 0; overflow: hidden }}
.tiles {{ display: grid; grid-template-columns: 2.2fr repeat(5, 1fr); gap: 1px; margin: 0; background: var(--line) }}
.tiles > div {{ padding: 20px 22px; background: var(--card) }}
.tiles dt {{ color: var(--soft); font-size: 13px }}
.tiles dd {{ margin: 0; font-size: 24px; line-height: 1.3; font-weight: 600; letter-spacing: -.02em }}
.tiles .first dd {{ font-size: 40px; line-height: 1.1; color: var(--right) }}
.tiles svg {{ max-width: 300px; margin: 4px 0 6px }}
.tiles small {{ display: block; color: var(--soft); font-size: 13px; line-height: 1.35; font-weight: 400;
  letter-spacing: 0 }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px 28px }}
figure {{ margin: 0; min-width: 0 }}
figcaption {{ color: var(--soft); font-size: 13px }}
svg {{ display: block; overflow: visible }}
.chart {{ width: 100%; height: auto }} .chart.spread {{ max-width: 760px }}
text {{ fill: var(--soft); font-size: 12px }}
.grid {{ stroke: var(--line) }}
.axis {{ stroke: var(--soft) }}
.mark {{ stroke: var(--soft); stroke-dasharray: 3 3 }}
.curve {{ fill: none; stroke-width: 1.8; stroke-linejoin: round }}
.dashed {{ stroke-dasharray: 5 3 }}
.hit {{ fill: transparent }} .hit:hover {{ fill: var(--ink); fill-opacity: .08 }}
{_series()}
.legend {{ display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; list-style: none;
  font-size: 13px }}
.legend li {{ min-width: 0; max-width: 100% }}
.legend i, th i {{ display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 3px;
  vertical-align: -1px; outline: 1px solid var(--line); flex: none }}
.legend i.curve {{ height: 3px; vertical-align: 4px; outline: 0 }}
table {{ border-collapse: collapse; width: 100% }}
th {{ font-weight: 400; text-align: left }}
thead th {{ color: var(--soft); font-size: 13px; vertical-align: bottom }}
.bars th, .bars td {{ width: 1%; padding: 3px 0; vertical-align: middle; white-space: nowrap }}
.bars th:first-child {{ padding-right: 14px }} .bars th:nth-child(2), .bars td:nth-child(2) {{ width: auto }}
.bars th span, .figures tbody th span {{ display: inline-block; max-width: 190px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom }}
.bars th:nth-child(n + 3), .bars td:nth-child(n + 3) {{ padding-left: 14px; text-align: right }}
.bars td:nth-child(4) {{ color: var(--soft); font-size: 13px }}
.track {{ fill: var(--line); fill-opacity: .55 }} .bar {{ fill: var(--right); fill-opacity: .75 }}
.halo {{ stroke: var(--card); stroke-width: 4.5; stroke-opacity: .8 }}
.whisker {{ stroke: var(--ink); stroke-width: 1.5 }}
.scroll {{ overflow-x: auto; padding-bottom: 6px }}
.figures {{ font-size: 14px }}
.figures th, .figures td {{ padding: 5px 10px; white-space: nowrap; border-top: 1px solid var(--line) }}
.figures th:first-child {{ padding-left: 0; position: sticky; left: 0; background: var(--card) }}
.figures td, .figures thead th + th {{ text-align: right }}
.figures thead th {{ border: 0 }}
.matrix text {{ fill: var(--ink) }} .matrix .ground {{ fill: var(--line); fill-opacity: .4 }}
.matrix .name {{ fill: var(--soft) }} .matrix .count {{ font-size: 11px; text-anchor: middle }}
.matrix .small {{ font-size: 9px }}
.matrix .right {{ fill: var(--right) }} .matrix .wrong {{ fill: var(--wrong) }}
.matrix g:hover > rect {{ stroke: var(--ink) }}
.gallery {{ display: grid; gap: 26px; margin-top: 18px }}
.gallery > article {{ min-width: 0; break-inside: avoid }}
.gallery h3 {{ display: flex; gap: 4px 12px; flex-wrap: wrap; justify-content: space-between }}
.gallery h3 span {{ color: var(--soft); font-weight: 400 }}
.row {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px }}
.row img {{ display: block; width: 100%; height: auto; border-radius: 6px; background: var(--line) }}
.about th {{ width: 1%; padding: 2px 20px 2px 0; color: var(--soft); white-space: nowrap; vertical-align: top }}
.about td {{ padding: 2px 0 }}
summary {{ cursor: pointer; font-size: 18px; font-weight: 650; letter-spacing: -.01em }}
details[open] summary {{ margin-bottom: 12px }}
@media (max-width: 900px) {{ .tiles {{ grid-template-columns: repeat(3, 1fr) }}
  .tiles .first {{ grid-column: 1 / -1 }} .tiles > :last-child {{ grid-column: span 2 }}
  .row {{ grid-template-columns: repeat(2, 1fr) }} }}
@media (max-width: 560px) {{ main, header, footer {{ padding: 0 12px }} header {{ padding-top: 24px }}
  h1 {{ font-size: 22px }} section {{ padding: 16px; border-radius: 10px }}
  .tiles {{ grid-template-columns: repeat(2, 1fr) }} .tiles > div {{ padding: 12px 16px }}
  section.summary {{ padding: 0 }} .bars :is(th, td):nth-child(4) {{ display: none }}
  .bars th:first-child {{ padding-right: 8px }} .bars thead text:nth-child(even) {{ display: none }}
  .bars th span {{ max-width: 100px }} .about th {{ display: block; width: auto; padding: 6px 0 0 }}
  .about td {{ display: block }} .figures tbody th span {{ max-width: 110px }} }}
@media print {{ body {{ background: none }} .matrix {{ max-width: 100%; height: auto }}
  section.short, figure {{ break-inside: avoid }}
  section {{ padding: 12px 0; border-width: 1px 0 0; border-radius: 0 }}
  .scroll {{ overflow: visible }} details::details-content {{ content-visibility: visible }}
  * {{ print-color-adjust: exact }} }}
"""

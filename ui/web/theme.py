"""How the page looks: one theme for light and dark, with fonts that every system has."""

import gradio as gr

_INK = gr.themes.Color(
    name="ink", c50="#f7f7f5", c100="#efeeeb", c200="#e1dfda", c300="#c9c6bf", c400="#98948b", c500="#6f6b63",
    c600="#55524b", c700="#3d3b36", c800="#282723", c900="#1c1b19", c950="#131211",
)  # fmt: skip
_ACCENT = gr.themes.Color(
    name="accent", c50="#eefbf8", c100="#d3f5ec", c200="#a8eadb", c300="#6fd8c3", c400="#35bda5", c500="#12a08a",
    c600="#0b7f6f", c700="#0d665a", c800="#10514a", c900="#12433e", c950="#052723",
)  # fmt: skip
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
_LOOKS: dict[str, str] = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "block_background_fill": "white",
    "block_background_fill_dark": "*neutral_900",
    "block_border_width": "1px",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "*neutral_800",
    "block_label_background_fill": "transparent",
    "block_label_background_fill_dark": "transparent",
    "block_label_border_width": "0px",
    "block_label_border_width_dark": "0px",
    "block_label_text_color": "*neutral_600",
    "block_label_text_color_dark": "*neutral_300",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_200",
    "block_title_text_weight": "600",
    "block_info_text_color": "*neutral_500",
    "block_info_text_color_dark": "*neutral_400",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "*neutral_800",
    "input_background_fill": "*neutral_50",
    "input_background_fill_dark": "*neutral_950",
    "input_border_width": "1px",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "*neutral_700",
    "input_border_color_focus": "*primary_500",
    "input_border_color_focus_dark": "*primary_400",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_dark": "*primary_600",
    "button_primary_background_fill_hover_dark": "*primary_500",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "white",
    "button_secondary_background_fill": "white",
    "button_secondary_background_fill_dark": "*neutral_800",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "*neutral_700",
    "button_border_width": "1px",
    "slider_color": "*primary_500",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_300",
}
"""The theme's variables that differ from Gradio's; a star stands before one of the colours above."""


def theme() -> gr.themes.Base:
    """The theme of the whole page."""
    made = gr.themes.Base(
        primary_hue=_ACCENT, secondary_hue=_ACCENT, neutral_hue=_INK, font=_FONTS, font_mono=_MONO, radius_size="lg",
        text_size="md",
    )  # fmt: skip
    return made.set(**_LOOKS)

"""A page that answers by ear: what it shows, and (in `page` alone) how Gradio shows it."""

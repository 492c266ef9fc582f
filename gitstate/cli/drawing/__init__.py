"""Drawing: size and duration of versions, as bars and plots in a terminal, and as SVG."""

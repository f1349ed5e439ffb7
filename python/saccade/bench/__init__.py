"""python -m saccade.bench: searching side by side with every peer that installs from the package registry.

    environment     a virtual environment of its own with the peers in it; what cannot be installed is named
    data, files     data sets by name or file, their true neighbours, readers of the usual formats
    makers          SIFT of photos, embeddings of crops of photos, generated clusters
    engines/        one adapter an engine, with the grid that it is tuned over
    measure         one figure: queries a second, percentiles, recall
    run             what is built, which settings are worth measuring, in which order; resumable
    report, plots   medians, tables, JSON, CSV, SVG

bench/README.md tells how to use it and what it has shown.
"""

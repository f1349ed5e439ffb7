"""The demo: pictures in, a server up, questions asked, a page that shows what was found.

``python -m saccade.demo [DIR]`` indexes the photos in DIR, or pictures that it paints itself.
"""

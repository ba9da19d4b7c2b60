"""Slide to archive, and the proof that they agree.

``plan``     which chunks there are and how they are dealt to workers: pure
``pool``     a bounded number of tasks in flight; the first failure cancels the rest
``convert``  slide -> archive
``verify``   archive against slide
"""

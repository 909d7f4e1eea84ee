"""The comparison of `make bench`: the same requests through plain Envoy, through ext_proc servers, through Attaché and through
LiteLLM, in alternating rounds of one run.

    workloads   what is asked, and how many at once
    variants    the pipelines that are compared, started and stopped
    envoys      configuration of plain Envoy and of the two-phase ext_proc pattern
    measure     one round: load, CPU per request, and the order of rounds
    extras      measures that need a world of their own: half load, many deployments, two sidecars, a spend row, memory
    bars        pure: what must hold, from the raw rounds
    report      pure: JSON and Markdown; chart: the picture
"""

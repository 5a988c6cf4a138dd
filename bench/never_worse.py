# SPDX-License-Identifier: Apache-2.0

"""Every shipped profile on every scenario, beside doing nothing, with jobs that report progress and without.

``python bench/never_worse.py`` prints modelled time, and that of the job that fared worst; 1.03 is the most.
"""

from dataclasses import replace

from numad_py import profiles
from numad_py.policies.hold import Hold
from numad_py.sim import scenario, script
from numad_py.sim.replay import scores
from numad_py.sim.shipped import find, names

WORSE = 1.03


def times(name, profile, *, report):
    """Give modelled time and the worst job's time, both as times of what they are under hold."""
    written = script.read(find("scenarios", name))
    written = replace(written, jobs=tuple(replace(job, reports=report) for job in written.jobs))
    policies = {"hold": Hold(), "profile": profiles.build(profiles.load(profile))}
    found = scores(scenario.ticks(written), policies, scenario.prices(written, written.header(name)))
    hold, score = found["hold"], found["profile"]
    worst = max(score.job_s[job] / held_s for job, held_s in hold.job_s.items())
    return score.modelled_s / hold.modelled_s, worst


def main():
    """Print the table."""
    print(f"{'scenario':26}{'profile':12}{'reporting':>11}{'worst':>8}{'silent':>11}{'worst':>8}")
    for name in names("scenarios"):
        for profile in profiles.names():
            row = [*times(name, profile, report=True), *times(name, profile, report=False)]
            marks = [f"{each:.3f}{'*' if each > WORSE else ' '}" for each in row]
            print(f"{name:26}{profile:12}{marks[0]:>11}{marks[1]:>8}{marks[2]:>11}{marks[3]:>8}", flush=True)


if __name__ == "__main__":
    main()

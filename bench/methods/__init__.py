"""What the field calls methods: plans, the strategies that make them, schedules.

Functions of names and numbers; importing them imports no torch. Others use `plan.Plan`,
`strategies.STRATEGIES` and `schedules.SCHEDULES`.
"""

"""Rules between keys of a specification, in words, each with overrides of the quick start that break it."""

_NO_REPLAY = ("mixture.replay_ratio=0", "replay=[]", "evaluation.general=[]")
LABELLED = ("objective={kind: text_classification}", "domain=[{path: a.csv, contract: c}]", *_NO_REPLAY)
ASKED = (
    "objective={kind: instruction, metric: exact_match}",
    "domain=[{path: a.jsonl, contract: c}]",
    "evaluation.general=[{path: b.txt, contract: c, record: text}]",
    *_NO_REPLAY[:2],
)
TAGGED = ("objective={kind: token_classification}", "domain=[{path: a.conll, contract: c}]", *_NO_REPLAY)

_SCRATCH = ("base={from_scratch: {}}", "evaluation.general=[]")

ACROSS: dict[str, tuple[str, ...]] = {
    "Give exactly one of `base` and `base_from`.": ("base_from=champion",),
    "A model from scratch trains with method `full`.": (
        "base={from_scratch: {}}",
        "evaluation.general=[]",
        "method={kind: lora}",
    ),
    "A model from scratch has nothing to forget: no `evaluation.general`.": ("base={from_scratch: {}}",),
    "`mixture.replay_ratio` above 0 needs `replay`. At 0 the replay sources are not read,"
    " unless a remedy measures on them.": ("replay=[]",),
    "Give at most one of `mixture.replay_ratio` and `mixture.forgetting_budget`.": (
        "mixture.forgetting_budget=0.01",
    ),
    "`mixture.proxies` belongs to `mixture.forgetting_budget`.": ("mixture.proxies={}",),
    "`mixture.forgetting_budget` needs `replay` (or `self_replay`), a base that exists, an objective without a head, and a"
    " `promotion.max_forgetting` that is not below it.": ("mixture={forgetting_budget: 99}",),
    "Give exactly one of `evaluation.domain_holdout` and `evaluation.domain`.": (
        "evaluation.domain_holdout=null",
    ),
    "Any other language model needs at least one `evaluation.general` suite: it measures forgetting. With a head there may"
    " be none; if there are, they hold rows with the same labels.": ("evaluation.general=[]",),
    "With a head, thresholds of `promotion` are fractions of 1.": (
        *LABELLED,
        "promotion.min_gain=2",
    ),
    "`instruction` and `text_classification` read csv, tsv, json and jsonl; `token_classification` conll, json and jsonl;"
    " `language_modeling` anything but conll.": (*LABELLED, "domain.0.path=a.txt"),
    "`record: text` belongs to replay sources and general suites of objective `instruction`.": (
        *ASKED,
        "domain.0.record=text",
    ),
    "`prompt` and `response` of `columns` are given together, or not at all.": (
        *ASKED,
        "domain.0.columns={prompt: q}",
    ),
    "With metric `exact_match`, general suites are all text (`max_forgetting` is in nats per token) or all instructions"
    " (fractions of 1); `min_gain` is a fraction of 1.": (
        *ASKED,
        "evaluation.general=[{path: b.txt, contract: c, record: text}, {path: c.jsonl, contract: c}]",
    ),
    "`max_new_tokens` belongs to metric `exact_match`.": (
        *ASKED,
        "objective={kind: instruction, max_new_tokens: 9}",
    ),
    "A model from scratch is trained with `language_modeling` or a head, not with `instruction`.": (
        *ASKED,
        "base={from_scratch: {}}",
        "evaluation.general=[]",
    ),
    "`columns` names only fields that the objective reads, each with a column of its own.": (
        *LABELLED,
        "domain.0.columns={tags: x}",
    ),
    "`task` belongs to sources of `multi_task`; there every source has one, and every task a source of `domain` (and of"
    " `evaluation.domain`, if that is given).": ("domain.0.task=spam",),
    "`per_task` of method `adapter_pfeiffer` belongs to `multi_task`.": (
        "method={kind: adapter_pfeiffer, per_task: true}",
    ),
    "Columns of one source are all names or all numbers; numbers mean a csv or tsv file without a header.": (
        *LABELLED,
        "domain.0.columns={text: 2}",
    ),
    "A conll file has no names of columns: give the numbers of both, or neither, and no `group`.": (
        *TAGGED,
        "domain.0.columns={tags: 3}",
    ),
    "`mixture.temperature` and `mixture.importance` need a `mixture.replay_ratio` above 0; `temperature` needs two or more"
    " replay sources.": ("mixture.replay_ratio=0", "mixture.importance=towards_domain"),
    "`mixture.class_temperature` draws documents by their one label: `text_classification` only.": (
        "mixture.class_temperature=3",
    ),
    "Each remedy is named once, and a remedy that measures on general text needs `replay`.": (
        "remedies=[{kind: ewc}]",
        "mixture.replay_ratio=0",
        "replay=[]",
    ),
    "A remedy works with the methods and objectives that it names; see [the remedies](forgetting.md).": (
        "remedies=[{kind: ewc}]",
        "method={kind: vera}",
    ),
    "`distillation` on replay, `loss_weighting` and `domain_adversarial` need a `mixture.replay_ratio` above 0.": (
        "remedies=[{kind: loss_weighting}]",
        "mixture.replay_ratio=0",
    ),
    "`step_scaling` needs a `target` with every objective but `language_modeling`.": (
        *TAGGED,
        "remedies=[{kind: step_scaling}]",
    ),
    "`ema` is named before `weight_averaging`, which acts on what is deployed.": (
        "remedies=[{kind: weight_averaging}, {kind: ema}]",
    ),
    "`decay_ratio` belongs to the schedules `wsd` and `infinite`; `cooldown_ratio`, `constant_ratio` and `min_ratio` to"
    " `infinite`.": ("training.decay_ratio=0.2",),
    "Give exactly one of `training.tokens`, `training.epochs` and `training.steps`.": ("training.steps=5",),
    "`training.batch_tokens` is a whole number of sequences of `training.sequence_length`.": (
        "training.batch_tokens=4097",
    ),
    "`training.micro_batch_tokens` is a whole number of sequences and divides `training.batch_tokens`.": (
        "training.micro_batch_tokens=768",
    ),
    "`weight` belongs to replay sources.": ("domain.0.weight=2",),
    "`group` needs a format that has columns: not txt.": ("replay.0.group=topic",),
    "`columns` needs a format that has columns: not txt.": ("replay.0.columns={text: body}",),
    "`document` belongs to txt files.": ("domain.0.document=paragraph",),
    "`increments` go on from a model that is there: `base` is a folder or a Hub id.": (
        "increments={}",
        *_SCRATCH,
    ),
    "`increments` are scored on their own rows: `domain_holdout`, not `evaluation.domain`.": (
        "increments={}",
        "evaluation.domain_holdout=null",
        "evaluation.domain=[{path: a.txt, contract: c}]",
    ),
    "`increments` work with `language_modeling` only.": ("increments={}", *LABELLED),
    "`increments` that go on from the champion need a method that can be merged; with others `increments.start` is `base`.": (
        "increments={}",
        "method={kind: adapter}",
    ),
    "`increment` is written by Rootstock itself.": (
        "increment={number: 1, original: m, new: [{path: a.txt, contract: c, files: [a.txt]}]}",
    ),
}
"""Rules between keys, each with a change to the quick start that breaks it (the tests try every one)."""

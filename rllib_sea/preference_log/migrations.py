"""The tables of the preference log, as the steps from each version to the next.

Version n is reached by the first n of :data:`MIGRATIONS`. A migration that was released is never
changed: a new one is added.
"""

from __future__ import annotations

# Marks the file as a preference log: "duel" in ASCII.
APPLICATION_ID = 0x6475656C


def _append_only(table: str, taken: str) -> tuple[str, ...]:
    """Triggers that let a table grow only; ``taken`` finds the row that a new one would replace.

    INSERT OR REPLACE deletes without a delete trigger, so a taken key is refused as well.
    """
    refuse = "BEGIN SELECT RAISE(ABORT, 'the preference log is append-only'); END"
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}",
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) {refuse}",
    )


_VERSION_1 = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    # The first row is the log's own run; the others are those it was started from.
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL UNIQUE,
        seed INTEGER NOT NULL,
        policy_model TEXT NOT NULL,
        chat INTEGER NOT NULL CHECK (chat IN (0, 1)),
        opened_at TEXT NOT NULL
    )""",
    """CREATE TABLE questions (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (run_id),
        round INTEGER NOT NULL,
        position INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        prompt_text TEXT NOT NULL,
        prompt_token_ids TEXT NOT NULL,
        first_text TEXT NOT NULL,
        first_token_ids TEXT NOT NULL,
        first_logprobs TEXT NOT NULL,
        first_finish_reason TEXT NOT NULL,
        first_from_reference INTEGER NOT NULL CHECK (first_from_reference IN (0, 1)),
        second_text TEXT NOT NULL,
        second_token_ids TEXT NOT NULL,
        second_logprobs TEXT NOT NULL,
        second_finish_reason TEXT NOT NULL,
        second_from_reference INTEGER NOT NULL CHECK (second_from_reference IN (0, 1)),
        member INTEGER,
        policy_version INTEGER NOT NULL,
        strategy TEXT NOT NULL,
        oracle TEXT NOT NULL,
        labels TEXT NOT NULL,
        flip_noise REAL NOT NULL,
        shown_first TEXT NOT NULL CHECK (shown_first IN ('first', 'second')),
        asked_at TEXT NOT NULL,
        UNIQUE (round, position)
    )""",
    """CREATE TABLE answers (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        label TEXT NOT NULL CHECK (label IN ('first', 'second', 'tie', 'skip')),
        win_probability REAL,
        first_score REAL,
        second_score REAL,
        strength REAL,
        answered_at TEXT NOT NULL,
        answered_by TEXT NOT NULL
    )""",
    *_append_only("runs", "id = NEW.id OR run_id = NEW.run_id"),
    *_append_only("questions", "id = NEW.id OR (round = NEW.round AND position = NEW.position)"),
    *_append_only("answers", "question_id = NEW.question_id"),
)

# Several verdicts per question, labels that are derived from them, questions that are leased and
# withdrawn, and which round learned from what. Rows of version 1 keep their numbers.
_VERSION_2 = (
    """CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        rater TEXT NOT NULL,
        choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'tie', 'both_bad', 'skip')),
        win_probability REAL,
        first_score REAL,
        second_score REAL,
        strength REAL,
        reason TEXT,
        seconds REAL,
        shown_first TEXT CHECK (shown_first IN ('first', 'second')),
        replaces INTEGER UNIQUE REFERENCES verdicts (id),
        given_at TEXT NOT NULL
    )""",
    "CREATE INDEX verdicts_of_question ON verdicts (question_id)",
    # The newest row of a question counts. No preference: there is nothing to learn from it.
    """CREATE TABLE labels (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        preference REAL CHECK (preference BETWEEN 0 AND 1),
        weight REAL NOT NULL CHECK (weight >= 0),
        rule TEXT NOT NULL,
        derived_at TEXT NOT NULL
    )""",
    "CREATE INDEX labels_of_question ON labels (question_id)",
    # The newest row of a question counts.
    """CREATE TABLE leases (
        id INTEGER PRIMARY KEY,
        question_id INTEGER NOT NULL REFERENCES questions (id),
        rater TEXT NOT NULL,
        taken_at TEXT NOT NULL,
        ends_at TEXT NOT NULL
    )""",
    "CREATE INDEX leases_of_question ON leases (question_id)",
    """CREATE TABLE withdrawals (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        reason TEXT NOT NULL,
        withdrawn_at TEXT NOT NULL
    )""",
    # A round that is closed has learned: what it learned from is what it learns from if it is
    # done again.
    """CREATE TABLE closed_rounds (
        round INTEGER PRIMARY KEY,
        num_answered INTEGER NOT NULL,
        num_open INTEGER NOT NULL,
        closed_at TEXT NOT NULL
    )""",
    """CREATE TABLE lessons (
        question_id INTEGER PRIMARY KEY REFERENCES questions (id),
        round INTEGER NOT NULL REFERENCES closed_rounds (round)
    )""",
    """INSERT INTO verdicts (question_id, rater, choice, win_probability, first_score,
        second_score, strength, given_at)
        SELECT question_id, answered_by, label, win_probability, first_score, second_score,
        strength, answered_at FROM answers ORDER BY question_id""",
    """INSERT INTO labels (question_id, preference, weight, rule, derived_at)
        SELECT question_id, CASE label WHEN 'first' THEN 1.0 WHEN 'second' THEN 0.0
        WHEN 'tie' THEN 0.5 END, 1.0, 'single', answered_at FROM answers ORDER BY question_id""",
    # Version 1 learned in a round from that round's answers, all of which it waited for.
    """INSERT INTO closed_rounds
        SELECT round, (SELECT count(*) FROM answers JOIN questions AS earlier
            ON earlier.id = question_id WHERE earlier.round <= questions.round), 0,
        max(answered_at) FROM questions JOIN answers ON question_id = questions.id
        WHERE round NOT IN (SELECT round FROM questions WHERE id NOT IN
            (SELECT question_id FROM answers)) GROUP BY round""",
    """INSERT INTO lessons SELECT question_id, questions.round FROM answers
        JOIN questions ON questions.id = question_id
        JOIN closed_rounds ON closed_rounds.round = questions.round
        WHERE label IN ('first', 'second')""",
    "DROP TABLE answers",
    "DROP TRIGGER IF EXISTS questions_no_update",
    "DROP TRIGGER IF EXISTS questions_no_delete",
    "DROP TRIGGER IF EXISTS questions_no_replace",
    # It had a writer in no version: which response stood first is said by each verdict.
    "ALTER TABLE questions DROP COLUMN shown_first",
    *_append_only("questions", "id = NEW.id OR (round = NEW.round AND position = NEW.position)"),
    *_append_only("verdicts", "id = NEW.id OR replaces = NEW.replaces"),
    *_append_only("labels", "id = NEW.id"),
    *_append_only("leases", "id = NEW.id"),
    *_append_only("withdrawals", "question_id = NEW.question_id"),
    *_append_only("closed_rounds", "round = NEW.round"),
    *_append_only("lessons", "question_id = NEW.question_id"),
    """CREATE VIEW standing_verdicts AS SELECT * FROM verdicts
        WHERE id NOT IN (SELECT replaces FROM verdicts WHERE replaces IS NOT NULL)""",
    """CREATE VIEW standing_labels AS SELECT * FROM labels
        WHERE id = (SELECT max(id) FROM labels AS other
            WHERE other.question_id = labels.question_id)""",
    """CREATE VIEW states AS SELECT id AS question_id, round, position,
        CASE WHEN EXISTS (SELECT 1 FROM withdrawals WHERE question_id = questions.id)
        THEN 'withdrawn'
        WHEN EXISTS (SELECT 1 FROM labels WHERE question_id = questions.id)
        THEN 'answered' ELSE 'open' END AS state FROM questions""",
)

# Prompts that are conversations, as JSON; null for texts.
_VERSION_3 = ("ALTER TABLE questions ADD COLUMN prompt_messages TEXT",)

# Questions that are put to raters for another reason than a label to learn from, each kind with
# rounds and positions of its own. The table is written anew, as SQLite changes no UNIQUE.
_VERSION_4 = (
    "DROP VIEW states",
    """CREATE TABLE questions_4 (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL REFERENCES runs (run_id),
        purpose TEXT NOT NULL DEFAULT 'label'
            CHECK (purpose IN ('label', 'gold', 'repeat', 'evaluation')),
        repeats INTEGER REFERENCES questions (id) CHECK ((repeats IS NULL) = (purpose != 'repeat')),
        round INTEGER NOT NULL,
        position INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        prompt_text TEXT NOT NULL,
        prompt_token_ids TEXT NOT NULL,
        prompt_messages TEXT,
        first_text TEXT NOT NULL,
        first_token_ids TEXT NOT NULL,
        first_logprobs TEXT NOT NULL,
        first_finish_reason TEXT NOT NULL,
        first_from_reference INTEGER NOT NULL CHECK (first_from_reference IN (0, 1)),
        second_text TEXT NOT NULL,
        second_token_ids TEXT NOT NULL,
        second_logprobs TEXT NOT NULL,
        second_finish_reason TEXT NOT NULL,
        second_from_reference INTEGER NOT NULL CHECK (second_from_reference IN (0, 1)),
        member INTEGER,
        policy_version INTEGER NOT NULL,
        strategy TEXT NOT NULL,
        oracle TEXT NOT NULL,
        labels TEXT NOT NULL,
        flip_noise REAL NOT NULL,
        asked_at TEXT NOT NULL,
        UNIQUE (purpose, round, position)
    )""",
    """INSERT INTO questions_4 SELECT id, run_id, 'label', NULL, round, position, prompt_id,
        prompt_text, prompt_token_ids, prompt_messages, first_text, first_token_ids, first_logprobs,
        first_finish_reason, first_from_reference, second_text, second_token_ids, second_logprobs,
        second_finish_reason, second_from_reference, member, policy_version, strategy, oracle,
        labels, flip_noise, asked_at FROM questions ORDER BY id""",
    "DROP TABLE questions",
    "ALTER TABLE questions_4 RENAME TO questions",
    *_append_only(
        "questions",
        "id = NEW.id OR (purpose = NEW.purpose AND round = NEW.round AND position = NEW.position)",
    ),
    """CREATE VIEW states AS SELECT id AS question_id, purpose, round, position,
        CASE WHEN EXISTS (SELECT 1 FROM withdrawals WHERE question_id = questions.id)
        THEN 'withdrawn'
        WHEN EXISTS (SELECT 1 FROM labels WHERE question_id = questions.id)
        THEN 'answered' ELSE 'open' END AS state FROM questions""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)

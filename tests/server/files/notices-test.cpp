#include <capstan/server/files/notices.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::server::files {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using Strings = std::vector<std::string>;

TEST(Journals, ForgetTheOldestAndTellSo) {
  ChangeJournal journal({.changes = 10, .bytes = 1000});
  std::string start = journal.cursorOf(journal.end());
  for (int i = 0; i < 10; ++i) journal.add({{ChangeKind::CREATED, std::to_string(i), {}}});
  auto page = journal.read(*journal.numberOf(start), 4);
  EXPECT_FALSE(page.overflow);
  EXPECT_EQ(page.changes.size(), 4u);
  EXPECT_EQ(journal.read(page.next, 100).changes.front().path, "4");
  journal.add({{ChangeKind::CREATED, "10", {}}});
  EXPECT_TRUE(journal.read(*journal.numberOf(start), 4).overflow);
  EXPECT_FALSE(journal.read(page.next, 4).overflow);
  journal.add({{ChangeKind::CREATED, std::string(999, 'x'), {}}});
  EXPECT_TRUE(journal.read(page.next, 4).overflow) << "by their bytes too";
  ChangeJournal other;
  EXPECT_FALSE(other.numberOf(start).has_value());
  EXPECT_FALSE(journal.numberOf(journal.cursorOf(1000)).has_value());
}

TEST(Journals, WhatWasLostIsAnOverflowForThoseBeforeIt) {
  ChangeJournal journal;
  journal.add({{ChangeKind::CREATED, "a", {}}, {ChangeKind::UNSET, {}, {}}, {ChangeKind::CREATED, "b", {}}});
  auto page = journal.read(0, 10);
  EXPECT_TRUE(page.overflow);
  EXPECT_EQ(page.changes.size(), 2u);
  EXPECT_FALSE(journal.read(2, 10).overflow);
}

const char* word(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::CREATED: return "created ";
    case ChangeKind::CHANGED: return "changed ";
    case ChangeKind::REMOVED: return "removed ";
    case ChangeKind::MOVED: return "moved ";
    case ChangeKind::SUBTREE: return "subtree ";
    default: return "unset ";
  }
}

std::string shown(const Change& change) {
  return word(change.kind) + (change.from.empty() ? "" : change.from + " -> ") + change.path;
}

Strings coalesced(const std::vector<Change>& changes) {
  Coalescing coalescing;
  for (auto& change : changes) coalescing.add(change);
  Strings result;
  for (auto& change : coalescing.take()) result.push_back(shown(change));
  return result;
}

TEST(Coalesced, ChangesOfOnePathBecomeOneNotice) {
  using enum ChangeKind;
  EXPECT_THAT(coalesced({{CREATED, "a", {}}, {CHANGED, "a", {}}}), ElementsAre("created a"));
  EXPECT_THAT(coalesced({{CREATED, "a", {}}, {REMOVED, "a", {}}}), ElementsAre("removed a"))
      << "it may have been made in the place of another";
  EXPECT_THAT(coalesced({{CREATED, "a", {}}, {REMOVED, "a", {}}, {CREATED, "a", {}}}), ElementsAre("subtree a"));
  EXPECT_THAT(coalesced({{CHANGED, "a", {}}, {REMOVED, "a", {}}}), ElementsAre("removed a"));
  EXPECT_THAT(coalesced({{REMOVED, "a", {}}, {CREATED, "a", {}}}), ElementsAre("subtree a"));
  EXPECT_THAT(coalesced({{REMOVED, "a", {}}, {CREATED, "a", {}}, {REMOVED, "a", {}}}), ElementsAre("removed a"));
  EXPECT_THAT(coalesced({{CREATED, "a/b", {}}, {REMOVED, "a", {}}}), ElementsAre("removed a"));
  EXPECT_THAT(coalesced({{CHANGED, "a", {}}, {CREATED, "b", {}}, {CHANGED, "a", {}}}),
              ElementsAre("created b", "changed a"));
  EXPECT_THAT(coalesced({{CREATED, "a/b", {}}, {SUBTREE, "a", {}}, {CHANGED, "ab", {}}}),
              ElementsAre("subtree a", "changed ab"));
}

TEST(Coalesced, AMoveHidesNothingThatChangedBefore) {
  using enum ChangeKind;
  EXPECT_THAT(coalesced({{MOVED, "b", "a"}}), ElementsAre("moved a -> b"));
  EXPECT_THAT(coalesced({{CHANGED, "a/x", {}}, {MOVED, "b", "a"}}), ElementsAre("removed a", "subtree b"));
  EXPECT_THAT(coalesced({{MOVED, "b", "a"}, {CHANGED, "b/x", {}}}), ElementsAre("moved a -> b", "changed b/x"));
  EXPECT_THAT(coalesced({{MOVED, "b", "a"}, {CHANGED, "b", {}}}), UnorderedElementsAre("removed a", "subtree b"));
  EXPECT_THAT(coalesced({{MOVED, "b", "a"}, {REMOVED, "b", {}}}), UnorderedElementsAre("removed a", "removed b"));
  EXPECT_THAT(coalesced({{MOVED, "b", "a"}, {MOVED, "c", "b"}}),
              UnorderedElementsAre("removed a", "removed b", "subtree c"));
  EXPECT_THAT(coalesced({{MOVED, "d/b", "a"}, {REMOVED, "d", {}}}), UnorderedElementsAre("removed a", "removed d"));
  EXPECT_THAT(coalesced({{CHANGED, "a.txt", {}}, {MOVED, "b", "a"}}), ElementsAre("changed a.txt", "moved a -> b"));
}

}  // namespace
}  // namespace capstan::server::files

// Two trees in memory, an agreement between them, and an executor that carries plans out on them as strictly as disk
// and server do: what the planner is tested against. Every content is a number of its own, so that none can get lost
// unseen.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <capstan/sync/plan.h>

namespace capstan::sync::model {

struct Entry {
  Node node;
  uint64_t content = 0;    // of a file: one of its own for whatever was ever written
  bool isTouched = false;  // by the plan that is being carried out: then its stamp is not what was planned with
  bool isMade = false;     // by that plan
};
using Tree = ByPath<Entry>;

// Both sides, and what they agreed about.
class World {
 public:
  Tree trees[2];
  ByPath<Agreed> agreed;
  std::set<uint64_t> trash;  // contents that were displaced
  bool knowsDigests = false;

  Tree& tree(Side side) { return trees[side == Side::LOCAL ? 0 : 1]; }

  // What people do to a side. Preconditions are the caller's.
  void write(Side side, const std::string& path, uint64_t content);
  void makeFolder(Side side, const std::string& path);
  void makeSymlink(Side side, const std::string& path, const std::string& target);
  void rename(Side side, const std::string& from, const std::string& to);
  void copy(Side side, const std::string& from, const std::string& to);
  void remove(Side side, const std::string& path);
  void setMode(Side side, const std::string& path, uint32_t mode);
  void setTime(Side side, const std::string& path);
  uint64_t newContent() { return ++lastContent; }

  Changes changesOf(Side side);
  std::vector<Difference> differences(PlanOptions& options);
  // Both sides agree about all that is equal; makes them equal first: the remote is made a copy of the local.
  void agreeAboutAll();

  // Carries out the first `count` operations, of which the first `recorded` are remembered. Answers what is wrong with
  // them, or nothing.
  std::string apply(const Plan& plan, size_t count, size_t recorded);

  std::string describe() const;

 private:
  uint64_t lastContent = 0;
  uint64_t lastStamp = 0;
  int64_t clock = 1000;
  uint64_t lastIdentity = 0;
  std::vector<uint64_t> freeIdentities;  // file systems give them out again

  uint64_t newIdentity();
  void stampAnew(Node& node) { node.stamp = std::to_string(++lastStamp); }
  Node nodeOf(const Entry& entry) const;
  void displace(Tree& tree, const std::string& path);
  void moveEntries(Tree& tree, const std::string& from, const std::string& to);

  std::string applyOne(const Operation& operation);
  std::string check(const Operation& operation);
  std::string checkPlace(const Operation& operation);
  void record(const Operation& operation);
};

std::string digestOf(uint64_t content);
std::string describe(const Operation& operation);

}  // namespace capstan::sync::model

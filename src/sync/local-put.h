// Content on its way into the local folder: from the other side, or from another local file, into a staged file that
// only has to be put into its place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/tree.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// An operation that has all it needs, and only has to be submitted.
struct Prepared {
  // Again where the first attempt was refused.
  std::function<std::unique_ptr<storage::Mutation>()> make;
  std::string digest;
  std::optional<Node> source;
  std::optional<std::vector<Chunk>> chunks;
};

// What the ways have in common; all of it must outlive their promises.
struct PutContext {
  BlockingPool& pool;
  storage::Tree& tree;
  const std::string& folder;
  Replica& from;
  const Replica::ApplyOptions& options;
};

// A small file, in one piece.
kj::Promise<Result<Prepared>> putSmall(const PutContext& context, const Operation& operation);
// A large one: what the file that is there has already is copied, the rest is read from the other side. One that was
// broken off earlier goes on where it ended.
kj::Promise<Result<Prepared>> putLarge(const PutContext& context, const Operation& operation);
// From a file on this side.
kj::Promise<Result<Prepared>> putCopy(const PutContext& context, const Operation& operation);

// What is expected at a path, as the mutations have it.
Expectation expectationOf(const std::optional<Node>& node);
// Mode and time that a file gets. Its owner's privileges are not for the other side to give.
Attributes attributesOf(const Node& node);

}  // namespace capstan::sync

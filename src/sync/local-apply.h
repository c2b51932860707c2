// Carries out operations in the local folder: prepares what they need side by side, and submits them in their order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/storage/tree.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// `tree` is that of the folder. Pool, tree and `from` must outlive the promise. Results as of Replica::apply.
kj::Promise<std::vector<Result<Replica::Done>>> applyLocally(BlockingPool& pool, std::shared_ptr<storage::Tree> tree,
                                                             std::string folder, std::vector<Operation> operations,
                                                             Replica& from, Replica::ApplyOptions options);

}  // namespace capstan::sync

// A job's result on its way to the file that it is stored as: staged as an upload of its own, then placed in one step.
// Belongs to one event loop.
#pragma once

#include <functional>
#include <memory>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/server/compute/content.h>
#include <capstan/server/compute/jobs/stored-job.h>

namespace capstan::server::compute {

// `note` is called when all is staged, with what is about to be placed; the file is placed only if it answers ok. The
// promise may be dropped before; then nothing is left. Once `note` has answered, the file is placed (or not) whether
// anybody waits or not. `pool` must outlive the promise. Errors: those of deliver, FileStore.create and Upload.commit.
using NotePlacing = std::function<kj::Promise<Status>(Placing)>;
kj::Promise<Status> placeContent(BlockingPool& pool, schema::FileStore::Client store, const StoredOutput& output,
                                 std::shared_ptr<const Content> content, NotePlacing note);

}  // namespace capstan::server::compute

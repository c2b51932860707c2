// Content on its way into a ByteSink, in the encoding that is wanted: Value.stream, Value.save, and what jobs store.
#pragma once

#include <memory>

#include <kj/async.h>

#include <capstan/base/blocking-pool.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/server/compute/content.h>

namespace capstan::server::compute {

// Writes all of it to the sink; does not end it. Reading and converting happen on `pool`, one chunk ahead, as fast as
// the sink's window opens. `pool` must outlive the promise; dropping that stops it. `encoding` UNSET: as the content
// is, but BINARY as LINES. Errors: unsupported (text as binary), io, and what the sink throws. A lost connection
// rejects.
kj::Promise<Status> deliver(BlockingPool& pool, std::shared_ptr<const Content> content, schema::ByteSink::Client sink,
                            Encoding encoding);

}  // namespace capstan::server::compute

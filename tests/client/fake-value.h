// Values of the fake server: elements in memory, how they are read, and how a stream becomes one.
#pragma once

#include <kj/async.h>

#include <capstan/client/compute.h>
#include <capstan/schema/compute.capnp.h>

namespace capstan::client {

struct FakeTree;

using Computed = Result<ComputedValue>;

Error wrongOperand(std::string sentence);
ComputedValue valueOf(Elements elements, bool single = false);
ComputedValue valueOf(Number number);
Computed decoded(std::string_view bytes, ElementType type, Encoding encoding);

// Counts the call and asks the test; answers the error to be given, if any.
kj::Maybe<Error> enterFake(FakeTree& tree, const char* method);

schema::Value::Client newFakeValue(FakeTree& tree, kj::Promise<Computed> computing);
schema::ByteSink::Client newFakeCollector(FakeTree& tree, ElementType type, Encoding encoding,
                                          kj::Own<kj::PromiseFulfiller<Computed>> fulfiller);

}  // namespace capstan::client

// How a process and its event loops are set up to serve connections well: measured settings, applied once.
#pragma once

#include <kj/async.h>

namespace capstan::rpc {

// Lets malloc keep and reuse the memory of chunks instead of returning it to the kernel after each. To be called once,
// by main(), before any thread is made.
void setUpMalloc();

// To be called once for each event loop that carries connections: makes it look for input also while it is busy, so
// that a connection whose peer sends without a pause does not keep the others waiting.
void setUpEventLoop(kj::WaitScope& waitScope);

}  // namespace capstan::rpc

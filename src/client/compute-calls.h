// The calls behind Client's methods for computing: a computation is sent together with what is done with its value, in
// one round trip where the inputs fit into the message; and the same for the values of jobs.
#pragma once

#include <functional>
#include <memory>

#include <kj/function.h>

#include <capstan/client/compute.h>
#include <capstan/client/links.h>
#include <capstan/schema/compute.capnp.h>

namespace capstan::client {

// Where a value comes from: sends the calls, answers the capability at once or after a stream of input.
class ValueOrigin {
 public:
  virtual ~ValueOrigin() noexcept(false) = default;
  virtual kj::Promise<Result<schema::Value::Client>> start(Connection& connection) = 0;
  // Whether its calls can be repeated on another connection.
  virtual Repeat repeat() const = 0;
};
std::shared_ptr<ValueOrigin> originOf(Computation computation);
std::shared_ptr<ValueOrigin> originOfJob(std::string jobId);

// A computation with one number as its result. Errors also: corrupt, if the server answers something else.
// `onWork`, here and below, may be empty.
kj::Promise<Result<Number>> computeNumber(Links& links, std::shared_ptr<ValueOrigin> origin, OnWork onWork = {});
// The whole value in memory.
kj::Promise<Result<ComputedValue>> readValue(Links& links, std::shared_ptr<ValueOrigin> origin, OnWork onWork = {});
// To a consumer, which must stay valid until the promise resolves or is dropped. Not repeated once the consumer has
// taken something. `onInfo` may be empty; it is called before the first byte, at the price of a round trip.
kj::Promise<Result<ValueInfo>> streamValue(Links& links, std::shared_ptr<ValueOrigin> origin, ByteConsumer& sink,
                                           Encoding encoding, std::function<void(const ValueInfo&)> onInfo = {},
                                           OnWork onWork = {});
// Into a remote file: nothing of it passes through the client.
kj::Promise<Result<Entry>> saveValue(Links& links, std::shared_ptr<ValueOrigin> origin, std::string path,
                                     UploadSettings settings, Encoding encoding, OnWork onWork = {});

// Calls on jobs. Each finds its job by its id, in the same round trip.
kj::Promise<Result<std::string>> submitJob(Links& links, Computation computation, JobSettings settings);
kj::Promise<Result<JobStatus>> jobStatus(Links& links, std::string id);
kj::Promise<Status> listJobs(Links& links, std::function<void(JobStatus&&)> onJob);
// `deadline`: null for never.
kj::Promise<Result<JobStatus>> waitForJob(Links& links, std::string id, kj::Maybe<kj::TimePoint> deadline);
kj::Promise<Result<JobStatus>> watchJob(Links& links, std::string id, std::function<void(const JobStatus&)> onReport);
kj::Promise<Result<JobStatus>> cancelJob(Links& links, std::string id);
kj::Promise<Status> forgetJob(Links& links, std::string id);

}  // namespace capstan::client

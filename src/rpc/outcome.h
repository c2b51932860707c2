// Between capstan::Error and the schema's Outcome, in both directions; capabilities that answer one error to
// every call; and exceptions off the wire made harmless.
#pragma once

#include <capnp/capability.h>
#include <capnp/dynamic.h>
#include <capnp/schema.h>
#include <kj/exception.h>

#include <capstan/base/error.h>
#include <capstan/schema/common.capnp.h>

namespace capstan::rpc {

void setError(schema::Outcome::Builder outcome, const Error& error);
// The error in an outcome, if it is one. Control characters that a peer put into the sentence are escaped; an unknown
// code becomes IO.
kj::Maybe<Error> errorIn(schema::Outcome::Reader outcome);

// An error by itself, where several are answered beside each other; read as errorIn() reads it.
void writeError(schema::Error::Builder to, const Error& error);
Error readError(schema::Error::Reader from);

// Fills `results.outcome` from a Status.
template <typename Results>
void answer(Results&& results, const Status& status) {
  if (!status.ok()) setError(results.initOutcome(), status.error());
}

// A capability of interface T each of whose methods answers `error` in its results' `outcome`, with capabilities in the
// results that do the same; streaming methods throw. Works by reflection, for every interface of the schema.
capnp::Capability::Client failedCapability(capnp::InterfaceSchema interface, const Error& error);
template <typename T>
typename T::Client failed(const Error& error) {
  return failedCapability(capnp::Schema::from<T>(), error).template castAs<T>();
}

// Makes the results of a method what such a capability would answer. False if they have no `outcome`.
bool fillFailure(capnp::DynamicStruct::Builder results, const Error& error);

// An Error as what a streaming method throws, which has no results to put it in: errorFromException() makes the same
// Error of it at the other end, but for its path. Needed because a streaming call that threw makes all later calls on
// its capability throw the same, also the one that ends the stream.
kj::Exception exceptionFromError(const Error& error);

// An exception as a value for people. DISCONNECTED, OVERLOADED and UNIMPLEMENTED are told apart; a type that the peer
// invented becomes FAILED; control characters are escaped. Never throws.
Error errorFromException(const kj::Exception& exception);
// Clamps the type that 0.9.2 copies unchecked off the wire; to be applied before an exception is formatted or logged.
kj::Exception clamped(kj::Exception exception);
bool isDisconnected(const kj::Exception& exception);

}  // namespace capstan::rpc

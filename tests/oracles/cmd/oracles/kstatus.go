package main

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// kstatus: the status by which Helm 4 and Flux wait.
func kstatus(_ question, object *unstructured.Unstructured) (answer, error) {
	result, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	return answer{"status": result.Status.String(), "message": result.Message}, nil
}

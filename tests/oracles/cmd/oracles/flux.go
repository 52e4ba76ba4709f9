package main

import (
	"context"
	"encoding/json"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/fluxcd/pkg/runtime/conditions/check"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// conditioned is an object as Flux's checker wants it: with its conditions at hand.
type conditioned struct {
	unstructured.Unstructured
	conditions []metav1.Condition
}

func (c *conditioned) GetConditions() []metav1.Condition { return c.conditions }

// fluxConditions: whether the conditions keep the rules that Flux has for those of its own kinds. A fault is the answer's error.
func fluxConditions(_ question, object *unstructured.Unstructured) (answer, error) {
	text, err := json.Marshal(object.Object["status"])
	if err != nil {
		return nil, err
	}
	var status struct {
		ObservedGeneration int64              `json:"observedGeneration"`
		Conditions         []metav1.Condition `json:"conditions"`
	}
	if err := json.Unmarshal(text, &status); err != nil {
		return nil, err
	}
	checker := check.NewChecker(nil, &check.Conditions{NegativePolarity: []string{"Stalled", "Reconciling"}})
	// Flux has rules of their own for an object that is being worked on.
	if meta.IsStatusConditionTrue(status.Conditions, "Reconciling") || status.ObservedGeneration != object.GetGeneration() {
		checker = check.NewInProgressChecker(nil)
	}
	checker.DisableFetch = true
	fault, warning := checker.Check(context.Background(), &conditioned{*object, status.Conditions})
	if fault != nil {
		return nil, fault
	}
	said := answer{"warning": ""}
	if warning != nil {
		said["warning"] = warning.Error()
	}
	return said, nil
}

// fluxHealth: the status by the expressions current, failed and inProgress of a Kustomization's healthCheckExprs.
func fluxHealth(asked question, object *unstructured.Unstructured) (answer, error) {
	evaluator, err := cel.NewStatusEvaluator(&kustomize.HealthCheckExpressions{
		Current:    asked.Expressions["current"],
		Failed:     asked.Expressions["failed"],
		InProgress: asked.Expressions["inProgress"],
	})
	if err != nil {
		return nil, err
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return nil, err
	}
	return answer{"status": result.Status.String()}, nil
}
